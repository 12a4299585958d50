// The page at /docs.  It asks nobody but the server that it came from: validatorUrl would be a
// foreign one.
'use strict';

window.SwaggerUIBundle({
	url: '/docs/openapi.yaml',
	dom_id: '#ui',
	deepLinking: true,
	displayRequestDuration: true,
	validatorUrl: null,
});

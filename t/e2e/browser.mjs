// What a browser sees of the service: t/e2e/browser.py starts this and judges what it prints.
//
//	node browser.mjs ADDRESS CHROMIUM MODULES
//
// reads lines from standard input, each a visit and a device of the tables below and perhaps a file,
// and answers each with a line of JSON: what the visit found, and what went wrong on the way (foreign
// requests, errors on the console, breaches of the policy), or that it failed.  A visit is a function
// of a page and that file.
import process from 'node:process';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [address, executablePath, modules] = process.argv.slice(2);
const WITHIN_MS = 60000;

const operation = (page, id) => page.locator(`.opblock[id$="-${id}"]`);

async function openDocs(page) {
	await page.goto(`${address}/docs`);
	await page.locator('.opblock').first().waitFor();
	return page.locator('.opblock').count();
}

// Opens an operation, lets FILL fill its form, executes it and tells what came.
async function execute(page, id, fill = async () => {}) {
	const block = operation(page, id);
	await block.locator('.opblock-summary-control').click();
	await block.locator('.try-out__btn').click();
	await fill(block);
	await block.locator('.execute').click();
	const live = block.locator('.live-responses-table .response');
	await live.waitFor();
	return {
		status: (await live.locator('.response-col_status').innerText()).trim(),
		body: (await live.locator('.highlight-code pre').first().innerText()).trim(),
	};
}

// The picture at LINK as the browser shows it by itself: its size, and each pixel's red by rows.
async function look(context, link) {
	const page = await context.newPage();
	const answer = await page.goto(link);
	const found = await page.evaluate(async () => {
		const [image] = document.images;
		await image.decode();
		const { naturalWidth: width, naturalHeight: height } = image;
		const canvas = new OffscreenCanvas(width, height).getContext('2d');
		canvas.drawImage(image, 0, 0);
		const { data } = canvas.getImageData(0, 0, width, height);
		return { width, height, reds: [...data].filter((_, i) => i % 4 === 0),
		    breaches: window.breaches };
	});
	return { status: answer.status(), ...found };
}

const visits = {
	async ping(page) {
		return { operations: await openDocs(page), ...await execute(page, 'ping') };
	},

	// With a parameter in the path and one in the query, and with a body.
	async forms(page) {
		await openDocs(page);
		const coalesce = await execute(page, 'coalesce', async (block) => {
			await block.locator('tr[data-param-name=method] input').fill('max');
			await block.locator('tr[data-param-name=member_id] input').fill('1');
		});
		const type = await execute(page, 'createEventType', (block) =>
		    block.locator('textarea.body-param__text').fill(
		        JSON.stringify({ name: 'From a browser', amount_in_cents: 1 })));
		return { coalesce, type };
	},

	// An account is made and gets FILE as its image, which is then opened by its link.
	async upload(page, file) {
		await openDocs(page);
		const made = await execute(page, 'createAccount', (block) =>
		    block.locator('textarea.body-param__text').fill(JSON.stringify(
		        { name: 'b', email: `${Date.now()}@example.com`, address: 'c' })));
		const uploaded = await execute(page, 'uploadImage', async (block) => {
			await block.locator('tr[data-param-name=id] input')
			    .fill(String(JSON.parse(made.body).id));
			await block.locator('input[type=file]').setInputFiles(file);
		});
		const link = JSON.parse(uploaded.body).image_hosted_url;
		return { made, uploaded, shown: await look(page.context(), link) };
	},

	// The last operation of each tag, one after the other: with more of them open, each takes longer.
	async tags(page) {
		await openDocs(page);
		const tags = await page.locator('.opblock-tag-section').all();
		for (const tag of tags) {
			const summary = tag.locator('.opblock-summary-control').last();
			await summary.click();
			await tag.locator('.opblock.is-open .responses-table').waitFor();
			await summary.click();
		}
		return { tags: tags.length };
	},

	// What the policy forbids is seen to be forbidden.
	async breach(page) {
		await openDocs(page);
		return page.evaluate(async () => {
			const script = document.createElement('script');
			script.textContent = 'window.ran = true';
			document.body.append(script);
			const asked = await fetch('http://127.0.0.1:9/').then(() => true, () => false);
			return { ran: window.ran === true, asked };
		});
	},
};

const devices = {
	desk: { locale: 'en-GB' },
	phone: { locale: 'sv-SE', viewport: { width: 320, height: 568 }, isMobile: true,
	    hasTouch: true },
};

async function watch(context, wrong) {
	const host = new URL(address).host;
	await context.route('**', (route) => {
		const url = new URL(route.request().url());
		if (url.host === host || url.protocol === 'data:' || url.protocol === 'blob:')
			return route.continue();
		wrong.foreign.push(url.href);
		return route.abort();
	});
	await context.addInitScript(() => {
		window.breaches = [];
		document.addEventListener('securitypolicyviolation', (event) =>
		    window.breaches.push(`${event.effectiveDirective} ${event.blockedURI}`));
	});
	context.on('console', (message) => {
		if (message.type() === 'error')
			wrong.errors.push(message.text());
	});
	context.on('weberror', (error) => wrong.errors.push(String(error.error())));
}

async function make(browser, visit, device, file) {
	const wrong = { foreign: [], errors: [], breaches: [] };
	const context = await browser.newContext(devices[device]);
	try {
		context.setDefaultTimeout(WITHIN_MS);
		await watch(context, wrong);
		const page = await context.newPage();
		const found = await visits[visit](page, file);
		wrong.breaches = await page.evaluate(() => window.breaches);
		return { ...found, ...wrong };
	} catch (error) {
		return { failed: String(error), ...wrong };
	} finally {
		await context.close();
	}
}

async function main() {
	const { chromium } = await import(pathToFileURL(`${modules}/playwright-core/index.mjs`));
	// Nothing but the loopback can be found, whatever the browser would like to know.
	const args = ['--disable-dev-shm-usage',
	    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'];
	// As root Chromium takes no sandbox; what it sees is our own.
	const browser = await chromium.launch({ executablePath, args,
	    chromiumSandbox: process.getuid() !== 0 });
	for await (const line of createInterface({ input: process.stdin }))
		console.log(JSON.stringify(await make(browser, ...line.split(' '))));
	await browser.close();
}

await main();

/*
 * caredesk.h: the operator's command, by its parts: caredesk.c has the table of subcommands,
 * caredesk_render.c makes files out of the configuration, caredesk_run.c starts and watches it all.
 */
#ifndef CAREDESK_CAREDESK_H
#define CAREDESK_CAREDESK_H

#include <stdio.h>

#include "lib/conf.h"
#include "lib/err.h"

/* What conf cannot judge by itself: URLs by libcurl, files, the user.  ERR_INPUT, as conf_load().
 */
enum err check_usable(const struct conf_options *options, const struct conf *conf) MUST_CHECK;

/* The nginx configuration, for nginx -p ./ in the data folder. */
enum err render_nginx(const struct conf *conf, FILE *out) MUST_CHECK;

/* docs/problems.md. */
void render_problems(FILE *out);

/* nginx.conf and html/problems/NAME.html, below the working directory. */
enum err render_all(const struct conf *conf) MUST_CHECK;

/* Starts everything and stays until told to stop. */
enum err caredesk_run(const struct conf_options *options) MUST_CHECK;

#endif

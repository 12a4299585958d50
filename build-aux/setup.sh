# What run, check and .ci/run share: packages and a build.  Sourced by bash, from the top of the tree.

say() {
	printf '%s\n' "$*" >&2
}

# Installs those of the named Debian packages that are missing.
install_packages() {
	local missing=() package sudo=()

	for package; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
		    missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || {
			say "these packages are missing, and neither root nor sudo is here to install them:"
			say "  apt-get install ${missing[*]}"
			return 1
		}
		sudo=(sudo)
	fi
	say "installing ${missing[*]}"
	# nginx comes with a service of its own, which is not wanted: it must not be started.
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2 &&
	    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 RUNLEVEL=1 \
	    apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

run_packages=(gcc make libc6-dev autoconf automake pkg-config libfcgi-dev libjson-c-dev libyaml-dev
    libcjose-dev libcurl4-openssl-dev libgmime-3.0-dev libidn2-dev libjansson-dev libjpeg62-turbo-dev libseccomp-dev libsqlite3-dev libsodium-dev
    libspng-dev libssl-dev nettle-dev zlib1g-dev ca-certificates nginx spawn-fcgi multiwatch)
check_packages=("${run_packages[@]}" check chromium libsubunit-dev python3 python3-jsonschema
    python3-yaml openssl clang-format)

# install_npm_packages FOLDER [OPTION...]: npm's packages, as FOLDER/package-lock.json has them, into
# FOLDER/node_modules.  Debian's node and npm are not installed where others are.
install_npm_packages() {
	local folder=$1 log
	shift
	! cmp -s "$folder/package-lock.json" "$folder/node_modules/.lock" || return 0
	command -v node >/dev/null || install_packages nodejs || return 1
	command -v npm >/dev/null || install_packages npm || return 1
	say "installing npm's packages in $folder/node_modules"
	log=$(cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier \
	    --loglevel=error "$@" 2>&1) || { say "$log"; return 1; }
	cp "$folder/package-lock.json" "$folder/node_modules/.lock"
}

# The tests'.
install_node_modules() {
	command -v node >/dev/null || install_packages nodejs
	export CAREDESK_NODE_MODULES=$PWD/t/node_modules
	install_npm_packages t
}

# The registry that npm is told to ask, by the environment or ~/.npmrc; where it is not told, only npm
# knows one.
npm_registry() {
	local registry=${npm_config_registry:-${NPM_CONFIG_REGISTRY:-}}
	[ -n "$registry" ] || registry=$(sed -n 's/^registry *= *//p' ~/.npmrc 2>/dev/null | tail -n 1)
	printf '%s' "${registry%/}"
}

# fetch_npm_package FOLDER NAME FILE...: these files of the only package that is wanted of FOLDER/package-lock.json,
# into FOLDER/node_modules, without npm; nothing is unpacked that has not the digest which stands there.
fetch_npm_package() {
	local folder=$1 name=$2 registry entry version digest dir status=0
	shift 2
	registry=$(npm_registry)
	[ -n "$registry" ] || return 1
	entry=$(sed -n "\\|\"node_modules/$name\": {|,/}/p" "$folder/package-lock.json")
	version=$(sed -n 's/.*"version": "\(.*\)".*/\1/p' <<< "$entry")
	digest=$(sed -n 's/.*"integrity": "sha512-\(.*\)".*/\1/p' <<< "$entry" | base64 -d |
	    od -An -v -tx1 | tr -d ' \n')
	command -v curl >/dev/null || install_packages curl || return 1
	say "fetching $name"
	dir=$(mktemp -d)
	curl -fsSL --connect-timeout 20 --max-time 120 -o "$dir/tgz" "$registry/$name/-/$name-$version.tgz" >&2 &&
	    sha512sum --quiet -c <<< "$digest  $dir/tgz" >&2 &&
	    mkdir -p "$dir/package" "$folder/node_modules" &&
	    tar -xzf "$dir/tgz" -C "$dir" --no-same-owner "${@/#/package/}" >&2 &&
	    rm -rf "$folder/node_modules/$name" && mv "$dir/package" "$folder/node_modules/$name" &&
	    cp "$folder/package-lock.json" "$folder/node_modules/.lock" || status=1
	rm -r "$dir"
	return "$status"
}

# What the page at /docs is made of.  A service without that page is better than none.
install_swagger_ui() {
	cmp -s web/package-lock.json web/node_modules/.lock ||
	    fetch_npm_package web swagger-ui-dist LICENSE NOTICE favicon-16x16.png favicon-32x32.png \
	    swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css ||
	    install_npm_packages web --fetch-retries=0 --fetch-timeout=20000 ||
	    say "Swagger UI is not here: all works but /docs, until the next start that reaches npm's registry"
}

# Into the working directory.  The lists of packages may be missing, or older than what they name.
download_package() {
	local update=(apt-get update -qq) download=(apt-get download -qq -o APT::Sandbox::User=root "$1")
	[ "$(id -u)" -eq 0 ] || update=(sudo "${update[@]}")
	"${download[@]}" || { "${update[@]}" && "${download[@]}"; }
}

# promtool, which reads metrics as Prometheus does: the one that is installed, or else out of Debian's
# package into t/promtool, since to install that would start a service and make a user.
install_promtool() {
	local dir log status=0
	CAREDESK_PROMTOOL=$(command -v promtool) || CAREDESK_PROMTOOL=$PWD/t/promtool/promtool
	export CAREDESK_PROMTOOL
	[ ! -x "$CAREDESK_PROMTOOL" ] || return 0
	say "unpacking promtool in t/promtool"
	mkdir -p t/promtool
	dir=$(mktemp -d)
	log=$(cd "$dir" && download_package prometheus 2>&1 &&
	    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool 2>&1) &&
	    mv "$dir/usr/bin/promtool" t/promtool/promtool || status=1
	rm -r "$dir"
	[ "$status" -eq 0 ] || say "$log"
	return "$status"
}

# build FOLDER TARGET... [-- CONFIGURE-OPTION...]: configures where that was not done yet with these options,
# and makes the targets; quiet unless something is wrong.
build() {
	local folder=$1 targets=() log
	shift
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		targets+=("$1")
		shift
	done
	[ $# -eq 0 ] || shift
	if [ ! -x configure ] || [ configure.ac -nt configure ] || [ Makefile.am -nt Makefile.in ]; then
		say "making configure"
		log=$(./bootstrap 2>&1) || { say "$log"; return 1; }
	fi
	mkdir -p "$folder"
	if [ ! -f "$folder/Makefile" ] || [ "$(cat "$folder/.options" 2>/dev/null)" != "$*" ]; then
		say "configuring $folder $*"
		log=$(top=$PWD && cd "$folder" && "$top/configure" --quiet "$@" 2>&1) || { say "$log"; return 1; }
		printf '%s' "$*" > "$folder/.options"
	fi
	make --question --silent -C "$folder" "${targets[@]}" >/dev/null 2>&1 || {
		say "building in $folder"
		make --silent --jobs="$(nproc)" -C "$folder" "${targets[@]}" >&2
	}
}

# say_failures FOLDER: the failed behaviours of automake's tests that ran there, and the last that they say of it;
# all is in the .log files.
say_failures() {
	[ ! -f "$1/test-suite.log" ] || awk '
		function tell() {
			for (i = n > 6 ? n - 5 : 1; i <= n; i++)
				print substr(said[i], 1, 1000)
			n = 0
		}
		/^(not ok|Bail out!|ERROR:|ok)/ { tell() }
		/^(not ok|Bail out!|ERROR:)/ { print; failed = 1 }
		/^ok/ { failed = 0 }
		/^#/ && failed { said[++n] = $0 }
		END { tell() }' "$1/test-suite.log" >&2
}

# shellcheck shell=sh disable=SC2015,SC2034  # `a && b || die` is meant; what is set here is used elsewhere
# What contrib/quickstart and contrib/check share: messages, root rights, Debian packages, the build.
# Sourced, never run. Works in any POSIX shell.

# Packages that the build needs, beyond what every Debian has.
BUILD_PACKAGES="gcc libc6-dev meson ninja-build pkg-config libfuse3-dev fuse3 uthash-dev libsystemd-dev libdw-dev
libiberty-dev check"

say()
{
	printf '%s\n' "$*"
}

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# The last lines of a log, indented, for the reader of a failure.
show_tail()
{
	tail -n "${2:-15}" "$1" | sed 's/^/    /'
}

as_root()
{
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

need_root()
{
	[ "$(id -u)" -eq 0 ] && return
	command -v sudo >/dev/null || die "needs root rights to $1, and there is no sudo: run it as root"
	sudo true || die "needs root rights to $1, and sudo refused"
}

package_installed()
{
	dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

# install_packages LOG PACKAGE...: installs those that are missing; touches nothing when none is.
install_packages()
{
	log=$1
	shift
	command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
		die "needs Debian 12 or a system derived from it (there is no apt-get here)"
	missing=
	for package; do
		package_installed "$package" || missing="$missing $package"
	done
	if [ -z "$missing" ]; then
		say "Packages: everything needed is installed."
		return
	fi
	say "Packages: installing$missing (from Debian, with what they depend on)"
	need_root "install packages"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update >"$log" 2>&1 || {
		show_tail "$log"
		die "apt-get update failed; all of its output is in $log"
	}
	# shellcheck disable=SC2086  # a list of words
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
		install --no-install-recommends $missing >>"$log" 2>&1 || {
		show_tail "$log"
		die "apt-get install failed; all of its output is in $log"
	}
}

# make_dir DIR: DIR is there and ours to write.
make_dir()
{
	mkdir -p "$1" 2>/dev/null && [ -w "$1" ] ||
		die "cannot write to $1 (made by another user? then remove it: sudo rm -r $1)"
}

# configure LOG DIR OPTION...: makes DIR a build directory if it is none yet.
configure()
{
	log=$1 dir=$2
	shift 2
	rm -f "$log"
	[ -f "$dir/build.ninja" ] || meson setup "$dir" "$@" >>"$log" 2>&1
}

# compile LOG DIR TARGET...: without a target, everything.
compile()
{
	log=$1 dir=$2
	shift 2
	ninja -C "$dir" "$@" >>"$log" 2>&1
}

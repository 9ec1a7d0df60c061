#!/bin/sh
# Makes the locale de_DE.UTF-8 where it is missing, so that `make test` and `make chaos` can have servers that speak German.
# Debian and Ubuntu, as root or by sudo. Says nothing and changes nothing when it is there. Where it cannot be made it says
# "skipped" and why, and is content: those servers speak English then.
set -eu

who=german
. "$(dirname "$0")/packages.sh"
locale=de_DE.UTF-8

is_there() { locale -a 2> /dev/null | grep -qix 'de_DE\.utf-\?8'; }

skip() {
    say "skipped, servers will speak English: $*"
    exit 0
}

is_there && exit 0
[ "$(id -u)" -eq 0 ] || has sudo || skip "there is no $locale, and to make it needs root or sudo"

# The sources of locales are Debian's package `locales`.
if [ ! -e /usr/share/i18n/locales/de_DE ]; then
    may_install || skip "there is no $locale here, and no apt-get to install its source with"
    install_packages locales || skip 'the package locales cannot be installed'
fi

say "making the locale $locale"
as_root localedef -i de_DE -f UTF-8 "$locale" || skip "localedef does not make $locale"
is_there || skip "localedef made $locale, and locale -a does not list it"

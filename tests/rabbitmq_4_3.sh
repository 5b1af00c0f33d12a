#!/bin/sh
# Runs a pytest command with RabbitMQ 4.3 in the place of the installed one: `tests/rabbitmq_4_3.sh .venv/bin/pytest`.
# PIPERUN_TEST_AMQP_URL_43, where given, is a broker that runs already; what needs control of a node is skipped then.
# Otherwise a Debian with RabbitMQ 4.3 is made in a folder, once, and the tests start nodes from there (as root).

folder="$HOME/.cache/piperun/rabbitmq-4.3"
scripts=/usr/share/debootstrap/scripts

missing() {
    echo "test-4.3: $1; or give the URL of a running one in PIPERUN_TEST_AMQP_URL_43" >&2
    exit 1
}

make_folder() {
    [ "$(id -u)" = 0 ] || missing "making a folder with RabbitMQ 4.3 and entering it needs root"
    if ! command -v debootstrap >/dev/null; then
        command -v apt-get >/dev/null || missing "debootstrap is not installed"
        echo "installing debootstrap"
        apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap debian-archive-keyring >/dev/null ||
            missing "debootstrap could not be installed"
    fi
    # A debootstrap that is older than the release does not know its name; all recent releases are made alike.
    [ -e $scripts/forky ] || ln -s sid $scripts/forky
    echo "making $folder, which takes a few minutes once"
    mkdir -p "$(dirname "$folder")"
    rm -rf "$folder.new"
    debootstrap --variant=minbase --include=rabbitmq-server forky "$folder.new" >"$folder.log" 2>&1 ||
        missing "debootstrap failed, see $folder.log"
    echo '127.0.0.1 localhost' >>"$folder.new/etc/hosts"
    # In one step, so that a folder that is there is a whole one.
    mv "$folder.new" "$folder"
}

if [ -n "$PIPERUN_TEST_AMQP_URL_43" ]; then
    export PIPERUN_TEST_AMQP_URL="$PIPERUN_TEST_AMQP_URL_43"
else
    [ -x "$folder/usr/lib/rabbitmq/bin/rabbitmq-server" ] || make_folder
    [ "$(id -u)" = 0 ] || missing "entering $folder needs root"
    export PIPERUN_TEST_RABBITMQ_ROOT="$folder"
fi
exec "$@"

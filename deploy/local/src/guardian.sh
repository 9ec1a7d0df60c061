# Ends what a local cluster started, when whoever started it is gone. Reads from its standard input
#     watch postgres|plain PID     from now on
#     forget PID                   it was ended in order
#     remove FOLDER                when all is ended
# until the input ends, which it does however the owner ends. POSIX sh, and no program of another package
# where /proc tells the same.

# The owner ends in order on these; the guardian ends when the owner does.
trap '' HUP INT TERM

newline='
'
watched='' # "KIND:PID:BORN" …
folders='' # one a line

# Sets `state`, `parent` and `born` of process $1; fails when there is none, or only its exit status is left.
# A process is the same one as long as it was born at the same time: numbers are given out again.
look() {
    if [ -r /proc/self/stat ]; then
        { IFS= read -r line < "/proc/$1/stat"; } 2> /dev/null || return 1
        # The name, in brackets, may hold anything; the fields behind the last bracket do not.
        line=${line##*') '}
        # shellcheck disable=SC2086
        set -- $line
        state=$1 parent=$2 born=${20}
    else
        line=$(ps -o state= -o ppid= -o lstart= -p "$1" 2> /dev/null) || return 1
        # shellcheck disable=SC2086
        set -- $line
        [ $# -gt 2 ] || return 1
        state=${1%"${1#?}"} parent=$2
        shift 2
        born=$(echo "$*" | tr ' :' '__')
    fi
    [ "$state" != Z ] && [ "$state" != X ]
}

# Whether "KIND:PID:BORN" still runs. Sets `kind` and `pid`.
is_alive() {
    kind=${1%%:*} pid=${1#*:}
    pid=${pid%%:*}
    look "$pid" && [ "$born" = "${1##*:}" ]
}

# Adds to `targets` the children of those that are in it.
add_children() {
    parents=' '
    for target in $targets; do
        if is_alive "$target"; then parents="$parents$pid "; fi
    done
    if [ -r /proc/self/stat ]; then
        for folder in /proc/[0-9]*; do
            child=${folder#/proc/}
            look "$child" || continue
            case $parents in *" $parent "*) targets="$targets child:$child:$born" ;; esac
        done
    else
        for child in $(ps -A -o pid= -o ppid= | while read -r number parent; do
            case $parents in (*" $parent "*) echo "$number" ;; esac
        done); do
            if look "$child"; then targets="$targets child:$child:$born"; fi
        done
    fi
}

# Waits until no target is left, at most $1 times a fiftieth of a second.
wait_for_targets() {
    fiftieths=$1
    while [ "$fiftieths" -gt 0 ]; do
        left=''
        for target in $targets; do
            if is_alive "$target"; then left="$left $target"; fi
        done
        targets=$left
        [ -n "$targets" ] || return 0
        sleep 0.02
        fiftieths=$((fiftieths - 1))
    done
    return 1
}

while IFS= read -r line; do
    rest=${line#* }
    case $line in
        'watch '*)
            if look "${rest#* }"; then watched="$watched ${rest%% *}:${rest#* }:$born"; fi
            ;;
        'forget '*)
            kept=''
            for target in $watched; do
                case $target in *":$rest:"*) ;; *) kept="$kept $target" ;; esac
            done
            watched=$kept
            ;;
        'remove '*) folders="$folders$rest$newline" ;;
    esac
done

targets=''
for target in $watched; do
    if is_alive "$target"; then targets="$targets $target"; fi
done
add_children

# A stopped process does not hear anything but CONT and KILL. QUIT is PostgreSQL's immediate shutdown: it takes
# its children along and gives back its shared memory. The others keep nothing.
for target in $targets; do
    is_alive "$target" || continue
    kill -s CONT "$pid" 2> /dev/null
    case $kind in
        postgres) kill -s QUIT "$pid" 2> /dev/null ;;
        plain) kill -s KILL "$pid" 2> /dev/null ;;
    esac
done

# PostgreSQL takes some milliseconds; after two seconds something is wrong with it.
if ! wait_for_targets 100; then
    for target in $targets; do
        if is_alive "$target"; then kill -s KILL "$pid" 2> /dev/null; fi
    done
    wait_for_targets 100
fi

while [ -n "$folders" ]; do
    folder=${folders%%"$newline"*}
    folders=${folders#*"$newline"}
    # A PostgreSQL that was killed leaves a System V segment behind. Line 7 of its lock file names it: "KEY ID".
    for lock in "$folder"/*/*/postmaster.pid "$folder"/*/*/*/postmaster.pid; do
        [ -r "$lock" ] || continue
        segment=$(sed -n 7p "$lock")
        [ -z "$segment" ] || ipcrm -m "${segment##* }" 2> /dev/null
    done
    case $folder in
        /*/*) rm -rf -- "$folder" ;;
    esac
done

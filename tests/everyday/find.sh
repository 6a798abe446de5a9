# find -delete, and rm -r, while others create: what was there throughout is removed, directories end empty.
. "$(dirname "$0")/lib.sh"

work() {
    mkdir tree kept
    for n in $(seq 20); do
        mkdir -p "tree/$n/deep/er"
        (cd "tree/$n" && seq 500 | xargs touch && cd deep/er && seq 200 | xargs touch)
    done
    (cd kept && seq 1000 | xargs touch)
    [ "$(find tree -type f | wc -l)" = 14000 ]
    find tree -name '*[13579]' -type f -delete
    [ "$(find tree -type f | wc -l)" = 7000 ]
    # Beside somebody who makes and removes other names.
    (while [ ! -e stop ]; do mkdir -p kept/come && touch kept/come/{1..50} && rm -r kept/come; done) &
    find tree -delete
    touch stop
    wait
    rm -r kept/1??
}

check() {
    [ ! -e tree ]
    [ "$(find kept -type f | wc -l)" = 900 ]
    [ "$(ls kept | wc -l)" = 900 ]
    mkdir again
    (cd again && seq 3000 | xargs touch)
    find again -delete
    [ ! -e again ]
}

"$1"

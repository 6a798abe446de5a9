# git: many commits, branches and merges, work trees, clones of all sorts, gc with everything in it, fsck.
. "$(dirname "$0")/lib.sh"

export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
commits=${EVERYDAY_COMMITS:-300}

work() {
    need git git
    git init -q -b main repository
    cd repository
    git config gc.auto 50
    git config gc.autoDetach false
    for n in $(seq "$commits"); do
        mkdir -p "part-$((n % 10))"
        seq "$n" $((n * 20)) >"part-$((n % 10))/file-$n"
        echo "change $n" >>changes
        git add --all
        git commit -qm "commit $n"
    done
    git worktree add -q ../worktree -b side "HEAD~10"
    (cd ../worktree && echo side >side && git add side && git commit -qm side)
    git merge -q -m merge side
    git stash list
    git gc -q --aggressive --prune=now
    cd ..
    git clone -q repository clone
    git clone -q --no-local --bare repository bare.git
    (cd clone && git checkout -q -b more && echo x >x && git add x && git commit -qm more &&
        git push -q ../bare.git more)
    git -C repository repack -adfq
}

check() {
    for of in repository worktree clone bare.git; do
        git -C "$of" fsck --full --strict --no-progress
    done
    for of in repository worktree clone; do
        [ -z "$(git -C "$of" status --porcelain)" ] || fail "$of: $(git -C "$of" status --porcelain)"
    done
    [ "$(git -C repository rev-list --count main)" = $((commits + 2)) ]
    [ "$(git -C bare.git rev-list --count more)" = $((commits + 3)) ]
    [ "$(git -C repository worktree list | wc -l)" = 2 ]
    diff -r --exclude=.git repository clone >difference || grep -qx 'Only in clone: x' difference
    [ "$(wc -l <repository/changes)" = "$commits" ]
}

"$1"

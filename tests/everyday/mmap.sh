# Shared mappings: two processes see each other's writes, msync makes them durable, write and read agree.
. "$(dirname "$0")/lib.sh"

work() {
    need python3 python3
    python3 - <<'END'
import mmap, os
SIZE = 4 << 20
file = os.open("mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, SIZE)
ours = mmap.mmap(file, SIZE)
child = os.fork()
if child == 0:
    theirs = mmap.mmap(os.open("mapped", os.O_RDWR), SIZE)
    for at in range(0, SIZE, 4096):
        theirs[at:at + 8] = at.to_bytes(8, "little")
    theirs.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
for at in range(0, SIZE, 4096):
    assert ours[at:at + 8] == at.to_bytes(8, "little")
    assert os.pread(file, 8, at) == at.to_bytes(8, "little")
# What write() writes is in the mapping, and the other way round.
os.pwrite(file, b"written", 100_000)
assert ours[100_000:100_007] == b"written"
ours[200_000:200_006] = b"mapped"
assert os.pread(file, 6, 200_000) == b"mapped"
ours.flush()
private = mmap.mmap(file, SIZE, flags=mmap.MAP_PRIVATE)
private[300_000:300_007] = b"private"
assert os.pread(file, 7, 300_000) == bytes(7)
# A mapping outlives the name and the descriptor.
other = os.open("unlinked", os.O_RDWR | os.O_CREAT)
os.ftruncate(other, 10_000)
kept = mmap.mmap(other, 10_000)
os.close(other)
os.unlink("unlinked")
kept[5000:5004] = b"kept"
kept.flush()
assert kept[5000:5004] == b"kept"
END
}

check() {
    python3 - <<'END'
import mmap, os
file = os.open("mapped", os.O_RDONLY)
size = os.fstat(file).st_size
assert size == 4 << 20
data = mmap.mmap(file, size, prot=mmap.PROT_READ)
for at in range(0, size, 4096):
    assert data[at:at + 8] == at.to_bytes(8, "little"), at
assert data[100_000:100_007] == b"written" and data[200_000:200_006] == b"mapped"
assert data[300_000:300_007] == bytes(7)
END
}

"$1"

#!/bin/sh
# ZeroFS with a directory as its object store, as a block device with ext4 on it: for kernels without 9P. The
# kernel's ext4 does what can be done in memory; ZeroFS shows where something reaches the device.
#
# After some hundred fsyncs, zerofs 0.19.1 restarted like this gives files whose contents are wrong: of the real work
# the cold lines, which come after such, mean nothing.
#
# Needs: zerofs (cargo install zerofs), or its path in $ZEROFS; nbdfuse (apt-get install libnbd-bin), since many
# kernels have no NBD either; python3; root.
. "${0%/*}/common.sh"
. "${0%/*}/zerofs-server.sh"

# make_device GIB: a file that ZeroFS serves as a device; it is made over 9P.
make_device() {
    python3 - "$store/9p" "$1" <<'END'
import socket, struct, sys

server = socket.socket(socket.AF_UNIX)
server.connect(sys.argv[1])

def name(text):
    return struct.pack("<H", len(text)) + text.encode()

def receive(length):
    got = b""
    while len(got) < length:
        got += server.recv(length - len(got)) or sys.exit("9P: the server has gone")
    return got

def ask(sort, form, *values):
    body = b"".join(struct.pack("<" + f, v) if f != "s" else name(v) for f, v in zip(form, values))
    server.sendall(struct.pack("<IBH", 7 + len(body), sort, 0xFFFF if sort == 100 else 0) + body)
    length, answer, _ = struct.unpack("<IBH", receive(7))
    body = receive(length - 7)
    if answer != sort + 1:
        sys.exit("9P: request %d failed: %r" % (sort, body))

ask(100, "Is", 65536, "9P2000.L")
ask(104, "IIssI", 0, 0xFFFFFFFF, "root", "", 0)  # attach as 0
ask(110, "IIHs", 0, 1, 1, ".nbd")  # walk to 1
ask(14, "IsIII", 1, "disk", 2, 0o600, 0)  # create, which is 1 from now on
size = int(sys.argv[2]) << 30
ask(26, "IIIIIQQQQQ", 1, 8, 0, 0, 0, size, 0, 0, 0, 0)  # set its size
ask(120, "I", 1)  # let go of it
END
}

is_free() {
    ! grep -qsF "$store/device/disk" /sys/block/loop*/loop/backing_file
}

case $verb in
start)
    need nbdfuse "apt-get install libnbd-bin"
    need python3 "apt-get install python3"
    serve_zerofs
    [ -e "$store/made" ] || make_device 16
    mkdir -p "$store/device"
    serve nbdfuse nbdfuse "$store/device/disk" "nbd+unix:///disk?socket=$store/nbd"
    mounted "$store/device" nbdfuse
    # Nothing is written where all is zero, neither now nor behind the bench's back.
    [ -e "$store/made" ] || mkfs.ext4 -qF -E nodiscard,assume_storage_prezeroed=1 "$store/device/disk"
    mount -o loop,noinit_itable "$store/device/disk" "$mount"
    touch "$store/made"
    ;;
stop)
    unmounted "$mount"
    # The loop lets go of the device behind the unmount's back.
    within 30 is_free
    sync "$store/device/disk" 2>/dev/null || true
    unmounted "$store/device"
    ended nbdfuse
    end zerofs
    ;;
esac

#!/bin/busybox sh
# The first process of the guest: two NICs of one kind on a hub, one of them in a network namespace of its own, and what
# the host's tools say and do there. Ends the guest when it is done.
/bin/busybox --install -s /busybox
export PATH=/bin:/busybox NO_COLOR=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /sys/fs/bpf /run/netns /tmp/kept
mount -t bpf bpf /sys/fs/bpf
for module in $(cat /modules/order); do insmod /modules/$module; done

failures=0
tell() { echo; echo "=== $*"; }
check() { # WHAT COMMAND...
	what=$1
	shift
	if "$@" >/tmp/said 2>&1; then result=ok; else result=FAILED failures=$((failures + 1)); fi
	cat /tmp/said
	echo "$result: $what"
}
# Busybox's shell prefers its own.
ip() { /bin/ip "$@"; }
there() { ip netns exec there "$@"; }

echo "guest: begins"
ip link set lo up
ip netns add there
ip link set eth1 netns there
ip addr add 10.0.0.1/24 dev eth0
ip link set eth0 up
there ip addr add 10.0.0.2/24 dev eth1
there ip link set eth1 up
echo 100 >/proc/sys/vm/nr_hugepages
dd if=/dev/urandom of=/tmp/file bs=1M count=3 2>/dev/null
for second in 1 2 3 4 5 6 7 8 9 10; do ping -c 1 -W 1 10.0.0.2 >/dev/null && break; done

tell "vmmc doctor eth0"
vmmc doctor eth0
# An error, where there are no two queues, as there is no table.
ethtool -X eth0 equal 1 2>/dev/null && there ethtool -X eth1 equal 1 && echo && echo "The hash spares queue 1 now."
tell "vmmc doctor eth0 --try"
VMMC_LOG=info vmmc doctor eth0 --try >/tmp/trial 2>&1
grep -E "vmmc::| trial |a node can" /tmp/trial
check "the eager lane is in zero-copy mode" grep -q "native XDP, zero-copy" /tmp/trial

tell "vmmc ping --require-zero-copy"
vmmc ping --interface eth0 --require-zero-copy 10.0.0.2 2>/tmp/error
status=$?
cat /tmp/error
check "zero-copy that can't be is an error that says why" \
	sh -c "[ $status = 1 ] && grep -q -e xdp-zc-max-segs -e 'bulk lane needs one of its own' /tmp/error"

tell "vmmc serve, ping, put and get"
touch /tmp/serve
there vmmc serve --interface eth1 --export inbox:16MiB --write-to /tmp/kept --file table:/tmp/file >/tmp/serve 2>&1 &
serve=$!
for second in 1 2 3 4 5 6 7 8 9 10; do grep -q "answering pings" /tmp/serve && break; sleep 1; done
check "ping" vmmc ping --interface eth0 --count 100 10.0.0.2
check "put" vmmc put --interface eth0 10.0.0.2 inbox /tmp/file
check "what was put is what was sent" cmp /tmp/file /tmp/kept/file
check "get" vmmc get --interface eth0 --out /tmp/got 10.0.0.2 table
check "what was got is what was offered" cmp /tmp/file /tmp/got
there vmmc stats -a eth1 | sed -n "1,/^Exports/p"
kill -TERM $serve
wait $serve 2>/dev/null
echo
[ $failures = 0 ] && echo "guest: all is well" || echo "guest: $failures failed"
sleep 1
echo b >/proc/sysrq-trigger

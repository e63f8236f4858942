#!/bin/busybox sh
# First process of a test guest: loads drivers, sets up eth0 as the kernel command line says, then runs the
# commands that arrive on the second serial port. The first serial port is the console.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

while read -r module; do
    insmod "/modules/$module"
done < /modules/order

for word in $(cat /proc/cmdline); do
    case $word in
        guest.addresses=*) addresses=${word#*=} ;;
        guest.mtu=*) mtu=${word#*=} ;;
    esac
done

for scope in all default eth0; do
    [ -d "/proc/sys/net/ipv6/conf/$scope" ] || continue
    echo 0 > "/proc/sys/net/ipv6/conf/$scope/accept_dad"
    echo 0 > "/proc/sys/net/ipv6/conf/$scope/router_solicitations"
done
ip link set lo up
if [ -d /sys/class/net/eth0 ]; then
    [ -z "$mtu" ] || ip link set eth0 mtu "$mtu"
    ip link set eth0 up
    for address in $(echo "$addresses" | tr , ' '); do
        ip address add "$address" dev eth0
    done
fi
echo "guest: up after $(cut -d ' ' -f 1 /proc/uptime) s"

# A command is one line: a number, a space, shell text. The answer is "begin NUMBER", what the command wrote, and
# on a line of its own "end NUMBER STATUS".
#
# A shell of its own reads them: what a command leaves running becomes a child of the first process, and a shell whose
# child ends while it is in the middle of `read` forgets the part of the line that it has.
(
    exec < /dev/ttyS1 > /dev/ttyS1
    stty raw -echo
    echo "ready"
    while read -r number command; do
        sh -c "$command" < /dev/null > /tmp/output 2>&1
        status=$?
        echo "begin $number"
        cat /tmp/output
        echo
        echo "end $number $status"
    done
)
poweroff -f

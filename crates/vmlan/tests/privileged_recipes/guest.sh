#!/bin/busybox sh
# First process of a recipe's guest: asks for an address on every network card, and has a shell on the serial port.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /etc
while read -r module; do
    insmod "/modules/$module"
done < /modules/order
ip link set lo up

cat > /bin/bound << 'END'
#!/bin/busybox sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip address replace "$ip/$mask" dev "$interface"
for address in $router; do
    ip route replace default via "$address" dev "$interface"
done
echo "search $domain" > /etc/resolv.conf
for address in $dns; do
    echo "nameserver $address" >> /etc/resolv.conf
done
END
chmod 755 /bin/bound
for card in /sys/class/net/eth*; do
    [ -e "$card" ] || continue
    card=${card##*/}
    ip link set "$card" up
    udhcpc -i "$card" -b -t 60 -T 1 -s /bin/bound > /dev/null 2>&1 &
done

exec < /dev/ttyS0 > /dev/ttyS0 2>&1
stty raw -echo
# Somebody is there when an empty line comes.
until read -r -t 1 line; do
    echo "press Enter"
done
# Not on a terminal, it shows no prompt.
sh 2>&1 | cat
poweroff -f

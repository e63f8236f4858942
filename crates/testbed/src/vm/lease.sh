#!/bin/busybox sh
# What udhcpc runs when its lease changes: takes the address and the default route.
case $1 in
    bound | renew)
        ip address replace "$ip/$mask" dev "$interface"
        for address in $router; do
            ip route replace default via "$address" dev "$interface"
        done
        ;;
    deconfig)
        ip -4 address flush dev "$interface"
        ;;
esac

#!/bin/busybox sh
# shellcheck shell=dash
# The first and only process of the virtual machine: loads the Bluetooth stack, attaches the controller, and keeps
# bluetoothd running on the host's bus, unless the host says `hold` (/run/hold).
B=/bin/busybox
export PATH=/bin:/usr/bin
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
$B mount -t tmpfs run /run
while read -r module; do
    $B insmod "/mod/$module.ko" || echo "guest: $module cannot be loaded"
done </mod/order
$B ip link set lo up
$B ip addr add 10.0.2.15/24 dev eth0
$B ip link set eth0 up
$B --install -s /bin 2>/dev/null
export DBUS_SYSTEM_BUS_ADDRESS=tcp:host=10.0.2.100,port=55,family=ipv4
btattach -B /dev/hvc0 -P h4 -N &
# Commands from the host, one at a time.
(while :; do
    $B setsid $B sh </dev/hvc1 >/dev/hvc1 2>&1
    $B sleep 1
done) &
while :; do
    if [ -e /run/hold ]; then
        $B usleep 100000
        continue
    fi
    /usr/libexec/bluetooth/bluetoothd -n -E
    echo "guest: bluetoothd ended with $?"
done

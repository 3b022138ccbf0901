package main

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// send sends frames in turns for some time, past the queues and filters of the interface.
func send(device string, frames [][]byte, duration time.Duration) error {
	port, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return err
	}
	to := &unix.SockaddrLinklayer{Ifindex: port.Index, Halen: 6}
	for begun := time.Now(); time.Since(begun) < duration; {
		for _, f := range frames {
			if err := unix.Sendto(fd, f, 0, to); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return err
			}
		}
	}
	return nil
}

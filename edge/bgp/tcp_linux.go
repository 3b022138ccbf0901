package bgp

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tcpOptions sets what a session's sockets have to have before they listen or call: its key (TCP MD5, RFC 2385), and packets
// that live for one hop, as the router is on the link. Accepted sockets inherit both.
func tcpOptions(s Session) func(network, address string, conn syscall.RawConn) error {
	return func(_, _ string, conn syscall.RawConn) (err error) {
		control := conn.Control(func(fd uintptr) {
			level, option := unix.IPPROTO_IP, unix.IP_TTL
			if s.Peer.Is6() {
				level, option = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
			}
			if err = unix.SetsockoptInt(int(fd), level, option, 1); err == nil && s.Password != "" {
				err = setKey(fd, s)
			}
		})
		if control != nil {
			return control
		}
		return err
	}
}

func setKey(fd uintptr, s Session) error {
	sig := unix.TCPMD5Sig{Keylen: uint16(len(s.Password))}
	if copy(sig.Key[:], s.Password) < len(s.Password) {
		return fmt.Errorf("a key of %d bytes is longer than %d", len(s.Password), len(sig.Key))
	}
	if s.Peer.Is6() {
		address := (*unix.RawSockaddrInet6)(unsafe.Pointer(&sig.Addr))
		address.Family, address.Addr = unix.AF_INET6, s.Peer.As16()
	} else {
		address := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sig.Addr))
		address.Family, address.Addr = unix.AF_INET, s.Peer.As4()
	}
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG,
		uintptr(unsafe.Pointer(&sig)), unsafe.Sizeof(sig), 0)
	if errno != 0 {
		return fmt.Errorf("set the key for TCP MD5, for which the kernel needs CONFIG_TCP_MD5SIG: %w", errno)
	}
	return nil
}

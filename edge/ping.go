package edge

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"
)

// The echo messages of RFC 792 and of RFC 4443.
const (
	icmpEchoReply   = 0
	icmpEchoRequest = 8

	icmpv6EchoRequest = 128
	icmpv6EchoReply   = 129

	echoHeader = 8 // type, code, checksum, identifier, sequence number
	pingEvery  = 250 * time.Millisecond
)

var errUnanswered = errors.New("no answer")

// ping sends echo requests from one of the node's addresses until one is answered or ctx is done. It needs CAP_NET_RAW.
func ping(ctx context.Context, from, to netip.Addr) error {
	network, request, reply := "ip4:icmp", byte(icmpEchoRequest), byte(icmpEchoReply)
	if from.Is6() { // the kernel fills in the checksum, which is over the addresses too (RFC 3542 section 3.1)
		network, request, reply = "ip6:ipv6-icmp", icmpv6EchoRequest, icmpv6EchoReply
	}
	conn, err := net.ListenIP(network, &net.IPAddr{IP: from.AsSlice()})
	if err != nil {
		return fmt.Errorf("probe from %v: %w", from, err)
	}
	defer conn.Close()
	identifier := uint16(rand.Uint32())
	answer := make([]byte, 1500)
	var lastErr error
	for sequence := uint16(1); ctx.Err() == nil; sequence++ {
		until := time.Now().Add(pingEvery)
		if _, err := conn.WriteToIP(echo(request, identifier, sequence), &net.IPAddr{IP: to.AsSlice()}); err != nil {
			lastErr = err // such as no route yet
		}
		if err := conn.SetReadDeadline(until); err != nil {
			return err
		}
		for {
			n, source, err := conn.ReadFromIP(answer)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return fmt.Errorf("probe from %v: %w", from, err)
			}
			sender, _ := netip.AddrFromSlice(source.IP)
			if n >= echoHeader && sender.Unmap() == to && answer[0] == reply && binary.BigEndian.Uint16(answer[4:]) == identifier {
				return nil
			}
		}
	}
	if lastErr != nil {
		return fmt.Errorf("%w from %v to %v: %w", errUnanswered, to, from, lastErr)
	}
	return fmt.Errorf("%w from %v to %v", errUnanswered, to, from)
}

// echo returns an ICMP echo message without payload.
func echo(kind byte, identifier, sequence uint16) []byte {
	m := make([]byte, echoHeader)
	m[0] = kind
	binary.BigEndian.PutUint16(m[4:], identifier)
	binary.BigEndian.PutUint16(m[6:], sequence)
	var sum uint32 // RFC 1071
	for i := 0; i < len(m); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(m[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(m[2:], ^uint16(sum))
	return m
}

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"crossbill/domain"
)

// dumpRetries is how often a listing is begun again because what it lists changed meanwhile.
const dumpRetries = 5

// execute sends a request in the datapath's namespace, and returns the answers of a kind.
func (d *Datapath) execute(request *nl.NetlinkRequest, answer uint16) ([][]byte, error) {
	if d.socket == nil {
		socket, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
		if err != nil {
			return nil, err
		}
		if err := unix.SetsockoptInt(socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1); err != nil {
			socket.Close()
			return nil, err
		}
		d.socket = &nl.SocketHandle{Socket: socket}
	}
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: d.socket}
	return request.Execute(unix.NETLINK_ROUTE, answer)
}

// dump lists what the request selects. The kernel does the selecting (strict checking), so that a node with thousands of
// interfaces and full tables answers for one of them quickly; the netlink library would read them all each time.
func (d *Datapath) dump(request int, answer uint16, data ...nl.NetlinkRequestData) ([][]byte, error) {
	for range dumpRetries {
		message := nl.NewNetlinkRequest(request, unix.NLM_F_DUMP)
		for _, part := range data {
			message.AddData(part)
		}
		messages, err := d.execute(message, answer)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return messages, err
		}
	}
	return nil, domain.Errorf(domain.Unavailable, "datapath.dump", "the kernel's table does not stand still").
		WithHint("try again")
}

// ownAddress is an address of an interface.
type ownAddress struct {
	ifindex int
	prefix  netip.Prefix
	flags   uint32 // IFA_F_*
}

// everyInterface is none's index.
const everyInterface = 0

// listAddresses lists an interface's addresses of both families, but for link-local ones.
func (d *Datapath) listAddresses(ifindex int) ([]ownAddress, error) {
	messages, err := d.dump(unix.RTM_GETADDR, unix.RTM_NEWADDR,
		&nl.IfAddrmsg{IfAddrmsg: unix.IfAddrmsg{Family: unix.AF_UNSPEC, Index: uint32(ifindex)}})
	if err != nil {
		return nil, fmt.Errorf("addresses of interface %d: %w", ifindex, err)
	}
	var addresses []ownAddress
	for _, m := range messages {
		header := nl.DeserializeIfAddrmsg(m)
		attributes, err := nl.ParseRouteAttr(m[header.Len():])
		if err != nil {
			return nil, fmt.Errorf("addresses of interface %d: %w", ifindex, err)
		}
		address := ownAddress{ifindex: int(header.Index), flags: uint32(header.Flags)}
		for _, a := range attributes {
			switch a.Attr.Type {
			case unix.IFA_ADDRESS, unix.IFA_LOCAL: // of IPv6 there is the first alone, of IPv4 the second comes later and counts
				ip, _ := netip.AddrFromSlice(a.Value)
				address.prefix = netip.PrefixFrom(ip, int(header.Prefixlen))
			case unix.IFA_FLAGS:
				address.flags = binary.NativeEndian.Uint32(a.Value)
			}
		}
		if !address.prefix.Addr().IsLinkLocalUnicast() || address.prefix.Addr().Is4() {
			addresses = append(addresses, address)
		}
	}
	return addresses, nil
}

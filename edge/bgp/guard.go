package bgp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/osrg/gobgp/v3/pkg/apiutil"
	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// Sizes of a message (RFC 4271 section 4.1). Longer ones (RFC 8654) are not offered.
const (
	headerLength = 19
	maxMessage   = 4096
	typeOffset   = 18

	holdTimeOffset = 22 // in an OPEN
)

// Subcodes that GoBGP has no names for: a message that its state does not await (RFC 6608 section 4).
const (
	unexpectedInOpenSent    = 1
	unexpectedInOpenConfirm = 2
	unexpectedInEstablished = 3
)

var (
	keepalive = encode(packet.NewBGPKeepAliveMessage())
	cease     = encode(packet.NewBGPNotificationMessage(packet.BGP_ERROR_CEASE, packet.BGP_ERROR_SUB_PEER_DECONFIGURED, nil)) // RFC 4486
)

// encode is for messages of our own making, which always serialise.
func encode(m *packet.BGPMessage) []byte {
	b, err := m.Serialize()
	if err != nil {
		panic(fmt.Sprintf("bgp: a message of our own does not serialise: %v", err))
	}
	return b
}

// breach is how a router broke the protocol, in the terms of the NOTIFICATION it gets for it (RFC 4271 section 6).
type breach struct {
	code, subcode byte
	data          []byte
	why           string
}

func (b *breach) Error() string { return b.why }

func (b *breach) notification() []byte {
	return encode(packet.NewBGPNotificationMessage(b.code, b.subcode, b.data[:min(len(b.data), maxMessage-headerLength-2)]))
}

// readMessage reads one message, header included, into the buffer. It returns a *breach for a header that is none
// (RFC 4271 section 6.1), after which nothing that follows can be read.
func readMessage(r io.Reader, buffer *[maxMessage]byte) ([]byte, error) {
	header := buffer[:headerLength]
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	for _, b := range header[:16] {
		if b != 0xff {
			return nil, &breach{packet.BGP_ERROR_MESSAGE_HEADER_ERROR, packet.BGP_ERROR_SUB_CONNECTION_NOT_SYNCHRONIZED, nil, "a message begins with a wrong marker"}
		}
	}
	length, kind := int(binary.BigEndian.Uint16(header[16:])), header[typeOffset]
	wrongLength := &breach{packet.BGP_ERROR_MESSAGE_HEADER_ERROR, packet.BGP_ERROR_SUB_BAD_MESSAGE_LENGTH, bytes.Clone(header[16:18]),
		fmt.Sprintf("a message of type %d says it has %d bytes", kind, length)}
	if length < headerLength || length > maxMessage {
		return nil, wrongLength
	}
	least, most := 0, maxMessage
	switch kind {
	case packet.BGP_MSG_OPEN:
		least = 29
	case packet.BGP_MSG_UPDATE:
		least = 23
	case packet.BGP_MSG_NOTIFICATION:
		least = 21
	case packet.BGP_MSG_KEEPALIVE:
		most = headerLength
	case packet.BGP_MSG_ROUTE_REFRESH: // RFC 2918 section 3
		least, most = 23, 23
	default:
		return nil, &breach{packet.BGP_ERROR_MESSAGE_HEADER_ERROR, packet.BGP_ERROR_SUB_BAD_MESSAGE_TYPE, []byte{kind},
			fmt.Sprintf("there is no message of type %d", kind)}
	}
	if length < least || length > most {
		return nil, wrongLength
	}
	m := buffer[:length]
	_, err := io.ReadFull(r, m[headerLength:])
	return m, err
}

// guard looks at everything a router says before GoBGP does. What GoBGP v3.37 does to a message in goroutines of its own,
// where a panic would end the process, is done to it here first, as far as it can be done from outside:
// parsing, validation, serialising, conversion to its API. What is to become of a wrong UPDATE (RFC 7606) is decided here
// too, so that GoBGP never has one to deal with.
type guard struct {
	asn      uint32                                       // the node's
	families map[packet.RouteFamily]packet.BGPAddPathMode // what the session carries
	opened   bool                                         // the router's OPEN has been heard
	agreed   bool                                         // and its KEEPALIVE after that: the session is established
	open     *packet.BGPOpen
	wide     bool // the router speaks four-octet AS numbers (RFC 6793)
	marked   bool // the last message was an End-of-RIB
}

func newGuard(asn uint32, family packet.RouteFamily) *guard {
	return &guard{asn: asn, families: map[packet.RouteFamily]packet.BGPAddPathMode{family: packet.BGP_ADD_PATH_NONE}}
}

// check returns what GoBGP is to hear for a message: itself as a rule. An error is a *breach, which ends the session.
func (g *guard) check(m []byte) (passed []byte, err error) {
	kind := m[typeOffset]
	defer func() {
		if panicked := recover(); panicked != nil {
			passed, err = nil, malformed(kind, fmt.Sprintf("a message of type %d makes the parser fail: %v", kind, panicked))
		}
	}()
	switch unexpected := fmt.Sprintf("a message of type %d is not awaited now", kind); {
	case kind == packet.BGP_MSG_NOTIFICATION:
	case !g.opened:
		if kind != packet.BGP_MSG_OPEN {
			return nil, &breach{packet.BGP_ERROR_FSM_ERROR, unexpectedInOpenSent, []byte{kind}, unexpected}
		}
	case !g.agreed:
		if kind != packet.BGP_MSG_KEEPALIVE {
			return nil, &breach{packet.BGP_ERROR_FSM_ERROR, unexpectedInOpenConfirm, []byte{kind}, unexpected}
		}
		g.agreed = true
	case kind == packet.BGP_MSG_OPEN:
		return nil, &breach{packet.BGP_ERROR_FSM_ERROR, unexpectedInEstablished, []byte{kind}, unexpected}
	}
	parsed, err := packet.ParseBGPMessage(m)
	g.marked = false
	switch kind {
	case packet.BGP_MSG_UPDATE:
		return g.checkUpdate(m, parsed.Body.(*packet.BGPUpdate), err)
	case packet.BGP_MSG_OPEN:
		if err != nil {
			return nil, asBreach(kind, err)
		}
		g.opened, g.open = true, parsed.Body.(*packet.BGPOpen)
		for _, c := range capabilities(g.open) {
			g.wide = g.wide || c.Code() == packet.BGP_CAP_FOUR_OCTET_AS_NUMBER
		}
		_, _ = apiutil.MarshalCapabilities(capabilities(g.open))
	default:
		if err != nil {
			return nil, asBreach(kind, err)
		}
	}
	return m, nil
}

// checkUpdate carries out RFC 7606: a route that is announced wrongly is withdrawn, so long as it can be told which.
func (g *guard) checkUpdate(m []byte, body *packet.BGPUpdate, err error) ([]byte, error) {
	handling := handlingOf(err)
	if handling < packet.ERROR_HANDLING_TREAT_AS_WITHDRAW { // else an attribute may be without its value, which GoBGP looks into
		if _, invalid := packet.ValidateUpdateMsg(body, g.families, true, false, false); handlingOf(invalid) > handling {
			handling, err = handlingOf(invalid), invalid
		}
	}
	if handling >= packet.ERROR_HANDLING_AFISAFI_DISABLE {
		return nil, asBreach(packet.BGP_MSG_UPDATE, err)
	}
	if end, family := body.IsEndOfRib(); end {
		_, g.marked = g.families[family]
	}
	changed := handling != packet.ERROR_HANDLING_NONE
	if g.settleAS4(body) {
		changed = true
	}
	if handling == packet.ERROR_HANDLING_TREAT_AS_WITHDRAW || g.loops(body) {
		if body.NLRI == nil { // the parser gave up before it had seen all routes
			return nil, asBreach(packet.BGP_MSG_UPDATE, err)
		}
		body, changed = packet.TreatAsWithdraw(body), true
		if _, invalid := packet.ValidateUpdateMsg(body, g.families, true, false, false); invalid != nil { // a family that was not agreed on
			return nil, asBreach(packet.BGP_MSG_UPDATE, invalid)
		}
		if end, _ := body.IsEndOfRib(); end { // nothing is left of it; it must not be taken for the marker
			return keepalive, nil
		}
	}
	_, _ = apiutil.MarshalPathAttributes(body.PathAttributes)
	out, err := (&packet.BGPMessage{Header: packet.BGPHeader{Type: packet.BGP_MSG_UPDATE}, Body: body}).Serialize()
	if !changed {
		return m, nil
	}
	if err != nil {
		return nil, asBreach(packet.BGP_MSG_UPDATE, err)
	}
	return out, nil
}

// loops reports whether the node's AS has had the route already. Such a route is no route (RFC 4271 section 9.1.2), and
// takes the place of the one before it; GoBGP only passes it over, which leaves the one before in use, and counts
// it against the prefix limit.
func (g *guard) loops(body *packet.BGPUpdate) bool {
	for _, attribute := range body.PathAttributes {
		switch path := attribute.(type) {
		case *packet.PathAttributeAsPath:
			for _, segment := range path.Value {
				if slices.Contains(segment.GetAS(), g.asn) {
					return true
				}
			}
		case *packet.PathAttributeAs4Path:
			for _, segment := range path.Value {
				if slices.Contains(segment.GetAS(), g.asn) {
					return true
				}
			}
		}
	}
	return false
}

// settleAS4 takes away what a router may not say of four-octet AS numbers beside AS_PATH (RFC 6793 section 4.1), and brings
// the rest into order: GoBGP indexes past the end of the attributes if AS4_PATH comes before AS_PATH. It reports whether
// anything was changed.
func (g *guard) settleAS4(body *packet.BGPUpdate) bool {
	has := map[packet.BGPAttrType]bool{}
	for _, a := range body.PathAttributes {
		has[a.GetType()] = true
		if path, ok := a.(*packet.PathAttributeAsPath); ok && len(path.Value) == 0 {
			has[packet.BGP_ATTR_TYPE_AS_PATH] = false
		}
	}
	if !has[packet.BGP_ATTR_TYPE_AS4_PATH] && !has[packet.BGP_ATTR_TYPE_AS4_AGGREGATOR] {
		return false
	}
	body.PathAttributes = slices.DeleteFunc(body.PathAttributes, func(a packet.PathAttributeInterface) bool {
		switch a.GetType() {
		case packet.BGP_ATTR_TYPE_AS4_PATH:
			return g.wide || !has[packet.BGP_ATTR_TYPE_AS_PATH]
		case packet.BGP_ATTR_TYPE_AS4_AGGREGATOR:
			return g.wide || !has[packet.BGP_ATTR_TYPE_AGGREGATOR]
		}
		return false
	})
	slices.SortStableFunc(body.PathAttributes, func(x, y packet.PathAttributeInterface) int { return int(x.GetType()) - int(y.GetType()) })
	return true
}

// outranks reports whether the router's identifier is the higher one.
func (g *guard) outranks(node netip.Addr) bool {
	return node.Less(netip.AddrFrom4([4]byte(g.open.ID.To4())))
}

func capabilities(open *packet.BGPOpen) (all []packet.ParameterCapabilityInterface) {
	for _, p := range open.OptParams {
		if list, ok := p.(*packet.OptionParameterCapability); ok {
			all = append(all, list.Capability...)
		}
	}
	return all
}

func handlingOf(err error) packet.ErrorHandling {
	if err == nil {
		return packet.ERROR_HANDLING_NONE
	}
	if m := (*packet.MessageError)(nil); errors.As(err, &m) {
		return m.ErrorHandling
	}
	return packet.ERROR_HANDLING_SESSION_RESET
}

// asBreach takes GoBGP's word for what is wrong where it has one.
func asBreach(kind byte, err error) *breach {
	b := malformed(kind, fmt.Sprintf("a message of type %d is malformed: %v", kind, err))
	if m := (*packet.MessageError)(nil); errors.As(err, &m) && m.TypeCode != 0 {
		b.code, b.subcode, b.data = m.TypeCode, m.SubTypeCode, m.Data
	}
	return b
}

func malformed(kind byte, why string) *breach {
	switch kind {
	case packet.BGP_MSG_OPEN:
		return &breach{packet.BGP_ERROR_OPEN_MESSAGE_ERROR, 0, nil, why}
	case packet.BGP_MSG_UPDATE:
		return &breach{packet.BGP_ERROR_UPDATE_MESSAGE_ERROR, packet.BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST, nil, why}
	}
	return &breach{packet.BGP_ERROR_MESSAGE_HEADER_ERROR, packet.BGP_ERROR_SUB_BAD_MESSAGE_LENGTH, nil, why}
}

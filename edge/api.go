package edge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"crossbill/api/client"
	"crossbill/domain"
)

// requestTimeout bounds a request, on top of the time the platform is asked to wait.
const requestTimeout = 15 * time.Second

// api is the platform behind its public API.
type api struct {
	client *client.Client
	node   string
}

// NewAPI returns the platform as the node that joined it sees it. It connects with the first call.
func NewAPI(i *Identity) (Platform, error) {
	return newAPI(i.current.Load().Platform, i.EdgeNodeID(), &http.Client{Transport: i})
}

func newAPI(baseURL, edgeNodeID string, over *http.Client) (Platform, error) {
	c, err := client.New(baseURL, "", client.WithHTTPClient(over))
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, "edge.NewAPI", "the platform's address %q is not usable: %w", baseURL, err)
	}
	return &api{client: c, node: edgeNodeID}, nil
}

func (p *api) DesiredState(ctx context.Context, after int64, wait time.Duration) (DesiredState, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+requestTimeout)
	defer cancel()
	seconds, changes := int(wait/time.Second), after > 0
	answer, _, err := client.Decode[client.DesiredState](p.client.GetDesiredState(ctx, p.node,
		&client.GetDesiredStateParams{AfterRevision: &after, Changes: &changes, WaitSeconds: &seconds}))
	if err != nil {
		return DesiredState{}, refusal(err, "")
	}
	return desiredState(answer)
}

func (p *api) Report(ctx context.Context, kind Kind, revision int64, observations []Observation) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	report := client.ObservationReport{Kind: client.EdgeKind(kind), Revision: &revision, Observations: make([]client.Observation, len(observations))}
	for i, o := range observations {
		report.Observations[i] = observation(o)
	}
	_, _, err := client.Decode[struct{}](p.client.ReportObservations(ctx, p.node, report))
	return refusal(err, "/observations/")
}

func (p *api) SendReadings(ctx context.Context, readings []Reading) ([]Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	batch := client.ReadingBatch{Readings: make([]client.Reading, len(readings))}
	for i, r := range readings {
		batch.Readings[i] = client.Reading{
			ConnectionId: r.Connection, Epoch: r.Epoch, Sequence: r.Sequence, From: r.From, To: r.To,
			BytesIn: r.BytesIn, BytesOut: r.BytesOut, PacketsIn: r.PacketsIn, PacketsOut: r.PacketsOut,
			DroppedIn: r.DroppedIn, DroppedOut: r.DroppedOut, Source: client.EdgeKind(r.Source),
		}
	}
	answer, _, err := client.Decode[client.ReadingVerdicts](p.client.SendReadings(ctx, p.node, batch))
	if err != nil {
		return nil, refusal(err, "/readings/")
	}
	var verdicts []Verdict
	for _, v := range answer.Verdicts {
		verdict := Verdict{ReadingID: ReadingID{Connection: v.ConnectionId, Epoch: v.Epoch, Sequence: v.Sequence}}
		switch string(v.Status) {
		case "accepted", "duplicate":
		case "rejected":
			if v.Problem != nil && v.Problem.Retryable {
				continue // no verdict yet
			}
			verdict.Rejected = true
			if v.Problem != nil {
				verdict.Problem = v.Problem.Detail
				for _, e := range fieldErrors(v.Problem) {
					verdict.Problem += "; " + e.Pointer + " " + e.Detail
				}
			}
		default:
			return nil, fmt.Errorf("a verdict %q is not in the contract this agent knows", v.Status)
		}
		verdicts = append(verdicts, verdict)
	}
	return verdicts, nil
}

func fieldErrors(p *client.Problem) []client.FieldError {
	if p.Errors == nil {
		return nil
	}
	return *p.Errors
}

// refusal tells what will never be accepted from what may be tried again. The items at fault are those the problem
// points at below prefix.
func refusal(err error, prefix string) error {
	var problem *client.ProblemError
	if !errors.As(err, &problem) {
		return err
	}
	switch domain.Code(problem.Code) {
	case domain.Invalid, domain.NotFound, domain.Conflict:
	default:
		return err // a certificate that is not accepted today may be tomorrow
	}
	refused := &RefusedError{Err: err, Wrong: map[int]string{}}
	if problem.Errors != nil && prefix != "" {
		for _, e := range *problem.Errors {
			rest, ok := strings.CutPrefix(e.Pointer, prefix)
			number, _, _ := strings.Cut(rest, "/")
			if i, err := strconv.Atoi(number); ok && err == nil {
				refused.Wrong[i] = strings.TrimPrefix(refused.Wrong[i]+"; "+e.Detail, "; ")
			}
		}
	}
	return refused
}

func observation(o Observation) client.Observation {
	v := client.Observation{ConnectionId: o.ConnectionID}
	if len(o.Sessions) > 0 {
		sessions := make([]client.Session, len(o.Sessions))
		for i, s := range o.Sessions {
			var family *client.AddressFamily // absent, it is ipv4
			if s.Family != "" {
				named := client.AddressFamily(s.Family)
				family = &named
			}
			sessions[i] = client.Session{Side: client.Side(s.Side), Family: family, State: client.SessionState(s.State), Since: s.Since,
				PrefixesReceived: s.PrefixesReceived, PrefixesSent: s.PrefixesSent}
		}
		v.Sessions = &sessions
	}
	if o.Probe != nil {
		v.Probe = &struct {
			Detail  *string `json:"detail,omitempty"`
			Passed  bool    `json:"passed"`
			ProbeId string  `json:"probe_id"`
		}{Detail: &o.Probe.Detail, Passed: o.Probe.Passed, ProbeId: o.Probe.ID}
	}
	if !o.OpenedAt.IsZero() {
		v.OpenedAt = &o.OpenedAt
	}
	if !o.ClosedAt.IsZero() {
		v.ClosedAt = &o.ClosedAt
	}
	if !o.SuspendedAt.IsZero() {
		v.SuspendedAt = &o.SuspendedAt
	}
	if !o.ResumedAt.IsZero() {
		v.ResumedAt = &o.ResumedAt
	}
	if o.Bandwidth > 0 {
		v.BandwidthMbps = &o.Bandwidth
	}
	if o.Removed {
		v.Removed = &o.Removed
	}
	if o.Message != "" {
		v.Message = &o.Message
	}
	return v
}

// desiredState reads the platform's answer. A state that cannot be read is no state: the node stays as it is.
func desiredState(v client.DesiredState) (DesiredState, error) {
	var problems domain.Problems
	d := DesiredState{Revision: v.Revision, ASN: uint32(v.Asn), ReadingInterval: time.Duration(v.ReadingIntervalSeconds) * time.Second}
	if v.SinceRevision != nil {
		d.Since = *v.SinceRevision
	}
	if v.Gone != nil {
		d.Gone = *v.Gone
	}
	problems.Check(v.ReadingIntervalSeconds > 0, "/reading_interval_seconds", "not positive")
	d.RouterID = parsed(&problems, "/router_id", v.RouterId, netip.ParseAddr)
	for i, c := range v.Connections {
		at := fmt.Sprintf("/connections/%d", i)
		phase := Phase(c.Phase)
		problems.Check(phase == Testing || phase == Production || phase == Suspended || phase == Absent, at+"/phase", "unknown phase %q", c.Phase)
		desired := DesiredConnection{ID: c.ConnectionId, Tag: c.Tag, Phase: phase, BandwidthMbps: int(c.BandwidthMbps),
			A: attachment(&problems, at+"/a", c.A), Z: attachment(&problems, at+"/z", c.Z)}
		if c.ProbeId != nil {
			desired.ProbeID = *c.ProbeId
		}
		d.Connections = append(d.Connections, desired)
	}
	return d, problems.Err("edge.DesiredState")
}

func attachment(problems *domain.Problems, at string, v client.DesiredAttachment) Attachment {
	a := Attachment{Interface: v.Interface, VLAN: v.Vlan, PeerASN: uint32(v.PeerAsn), PrefixLimit: v.PrefixLimit}
	if v.ServiceVlan != nil {
		a.ServiceVLAN = *v.ServiceVlan
	}
	if v.Address != nil && v.PeerAddress != nil {
		a.Address = parsed(problems, at+"/address", *v.Address, netip.ParsePrefix)
		a.Peer = parsed(problems, at+"/peer_address", *v.PeerAddress, netip.ParseAddr)
	}
	if v.Ipv6Address != nil && v.Ipv6PeerAddress != nil {
		a.IPv6Address = parsed(problems, at+"/ipv6_address", *v.Ipv6Address, netip.ParsePrefix)
		a.IPv6Peer = parsed(problems, at+"/ipv6_peer_address", *v.Ipv6PeerAddress, netip.ParseAddr)
	}
	problems.Check(a.Address.IsValid() || a.IPv6Address.IsValid(), at+"/address", "neither an IPv4 nor an IPv6 link")
	a.Down = v.AdminState != nil && *v.AdminState == client.AdminStateDown
	if v.Md5Secret != nil {
		a.MD5Secret = *v.Md5Secret
	}
	for _, p := range v.Prefixes {
		a.Prefixes = append(a.Prefixes, parsed(problems, at+"/prefixes", string(p), netip.ParsePrefix))
	}
	return a
}

func parsed[T any](problems *domain.Problems, at, text string, parse func(string) (T, error)) T {
	value, err := parse(text)
	problems.Check(err == nil, at, "%v", err)
	return value
}

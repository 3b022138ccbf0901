package listing

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/location"
	"crossbill/domain/port"
	"crossbill/domain/pricing"
)

// Limits on what a listing says.
const (
	MaxTitle       = 120  // characters
	MaxDescription = 4000 // characters
	MaxMetro       = 40   // characters
	MaxBandwidths  = 50
	MaxOfferedTo   = 100 // organisations a private offer names
	MaxRepairHours = 720 // of an SLA: thirty days
	MaxCredits     = 10  // of an SLA

	DefaultAnswerHours = 72  // for an answer to an order
	MaxAnswerHours     = 720 // likewise: thirty days
)

// Ways to approve an order.
const (
	ApprovalAutomatic = "automatic" // the provider accepts every order beforehand
	ApprovalManual    = "manual"    // the provider answers each order
)

// Categories are what a listing can be, a closed set.
var Categories = []string{
	CategoryPrivateConnect, CategoryCloudOnRamp, CategoryInternetAccess, CategoryInternetExchange, CategoryDataCentreInterconnect,
	CategoryTransport, CategorySecurity, CategoryVoice, CategoryMedia, CategoryStorage, CategoryApplication, CategoryManagedService,
}

// The categories.
const (
	CategoryPrivateConnect         = "private_connect"          // to a partner's network
	CategoryCloudOnRamp            = "cloud_on_ramp"            // to a cloud's private interconnect
	CategoryInternetAccess         = "internet_access"          // IP transit, dedicated access
	CategoryInternetExchange       = "internet_exchange"        // peering over an exchange's LAN
	CategoryDataCentreInterconnect = "data_centre_interconnect" // between buildings of a metro
	CategoryTransport              = "transport"                // Ethernet or wavelengths between metros
	CategorySecurity               = "security"                 // DDoS protection, scrubbing, secure web gateways
	CategoryVoice                  = "voice"                    // SIP trunks, unified communications
	CategoryMedia                  = "media"                    // video contribution, content distribution
	CategoryStorage                = "storage"                  // backup, object storage, replication
	CategoryApplication            = "application"              // a software service over a private path
	CategoryManagedService         = "managed_service"          // anything else that is run for the customer
)

// AttachmentDot1Q is one 802.1Q VLAN on the customer's port, which is what edge nodes deliver.
const AttachmentDot1Q = "dot1q"

// Changes of a connection that a listing may allow in place.
const (
	ChangeBandwidthUp   = "bandwidth_up"
	ChangeBandwidthDown = "bandwidth_down"
	ChangePlan          = "plan" // to another price plan at the same bandwidth
	ChangeBGP           = "bgp"  // prefixes, secrets, limits of the sessions
)

var changes = []string{ChangeBandwidthUp, ChangeBandwidthDown, ChangePlan, ChangeBGP}

// Who meters a connection.
const (
	MeteringPlatform = "platform" // the edge node
	MeteringProvider = "provider" // the provider's own meters, by usage events
)

// BGPTerms is the provider's side of the sessions.
type BGPTerms = domain.BGP

// Terms is what a listing offers. A field that is missing means what it meant before there was such a field, so its
// question is asked of a method: [Terms.InPlace], [Terms.MeteredBy], [Terms.Attachments], [Terms.VisibleTo],
// [Terms.AnswerWithin].
type Terms struct {
	Title           string       `json:"title"`
	Description     string       `json:"description"`
	Category        string       `json:"category"`
	PortID          string       `json:"port_id"`
	LocationID      string       `json:"location_id,omitempty"` // where the port's edge node is, if it is at a registered location
	Metro           string       `json:"metro"`
	BandwidthsMbps  []int        `json:"bandwidths_mbps"`
	AttachmentTypes []string     `json:"attachment_types,omitempty"`
	Approval        string       `json:"approval"`
	AnswerHours     int          `json:"answer_within_hours,omitempty"` // that the provider has for an order
	Changes         *Changes     `json:"changes,omitempty"`
	OfferedTo       []string     `json:"offered_to,omitempty"` // organisations; none: everybody
	SLA             *SLA         `json:"sla,omitempty"`
	Metering        string       `json:"metering,omitempty"`
	BGP             BGPTerms     `json:"bgp"`
	Plan            pricing.Plan `json:"plan"`
}

// Changes is the change matrix: what can be changed without taking the circuit down. Everything else is an outage, which
// a quote for a change says.
type Changes struct {
	InPlace []string `json:"in_place"`
}

// SLA is what the provider promises of the service.
type SLA struct {
	Availability domain.Decimal `json:"availability"`           // percent of a calendar month
	RepairHours  int            `json:"repair_hours,omitempty"` // from a reported fault to its repair; 0: nothing is promised

	Credits []Credit `json:"credits,omitempty"` // for months that fall short, the mildest first; none: nothing is given back
}

// Credit is what is given back of a month whose availability is below a bound.
type Credit struct {
	Below   domain.Decimal `json:"below"`   // percent
	Percent domain.Decimal `json:"percent"` // of what the provider charges by the month
}

// CreditFor returns the credit for a month, in seconds in scope and seconds of them down; ok is false if none is due. It is the
// one with the lowest bound that the availability is below, compared exactly.
func (s *SLA) CreditFor(inScope, down int64) (due Credit, ok bool) {
	if s == nil || inScope <= 0 {
		return due, false
	}
	up, whole := domain.DecimalFromInt(100*(inScope-down)), domain.DecimalFromInt(inScope)
	for _, c := range s.Credits {
		if up.Cmp(c.Below.Mul(whole)) < 0 {
			due, ok = c, true
		}
	}
	return due, ok
}

// InPlace reports whether a change leaves the circuit up. The edge node can do all of them so, and listings without a
// matrix let it.
func (t Terms) InPlace(change string) bool {
	if t.Changes == nil {
		return slices.Contains(changes, change)
	}
	return slices.Contains(t.Changes.InPlace, change)
}

// InPlaceChanges returns the change matrix of a listing that has one or not.
func (t Terms) InPlaceChanges() []string {
	if t.Changes == nil {
		return slices.Clone(changes)
	}
	return slices.Clone(t.Changes.InPlace)
}

// MeteredBy returns who meters: [MeteringPlatform] unless the listing says otherwise.
func (t Terms) MeteredBy() string {
	if t.Metering == "" {
		return MeteringPlatform
	}
	return t.Metering
}

// Attachments returns how a customer can attach: a VLAN unless the listing says otherwise.
func (t Terms) Attachments() []string {
	if len(t.AttachmentTypes) == 0 {
		return []string{AttachmentDot1Q}
	}
	return slices.Clone(t.AttachmentTypes)
}

// AnswerWithin returns how long the provider may take to answer an order.
func (t Terms) AnswerWithin() time.Duration {
	return time.Duration(cmp.Or(t.AnswerHours, DefaultAnswerHours)) * time.Hour
}

// Private reports whether the offer is to named organisations only.
func (t Terms) Private() bool { return len(t.OfferedTo) > 0 }

// VisibleTo reports whether an organisation is one of those it is offered to. The provider is not asked about here.
func (t Terms) VisibleTo(organisationID string) bool {
	return !t.Private() || slices.Contains(t.OfferedTo, organisationID)
}

// clone shares nothing with t that a caller could still write to.
func (t Terms) clone() Terms {
	t.BandwidthsMbps, t.BGP.Prefixes = slices.Clone(t.BandwidthsMbps), slices.Clone(t.BGP.Prefixes)
	t.AttachmentTypes, t.OfferedTo = slices.Clone(t.AttachmentTypes), slices.Clone(t.OfferedTo)
	if t.Changes != nil {
		t.Changes = &Changes{InPlace: append([]string{}, t.Changes.InPlace...)}
	}
	if t.SLA != nil {
		sla := *t.SLA
		sla.Credits = slices.Clone(sla.Credits)
		t.SLA = &sla
	}
	return t
}

func (t Terms) check(p *domain.Problems, providerID string, at port.State, in location.State) {
	p.Text("/title", t.Title, MaxTitle)
	p.LongText("/description", t.Description, MaxDescription)
	p.OneOf("/category", t.Category, Categories...)
	p.Text("/metro", t.Metro, MaxMetro)
	p.OneOf("/approval", t.Approval, ApprovalAutomatic, ApprovalManual)
	p.Check(t.AnswerHours >= 0 && t.AnswerHours <= MaxAnswerHours, "/answer_within_hours", "must be 1 to %d", MaxAnswerHours)
	p.BGP("/bgp", t.BGP)
	t.Plan.Check(p, "/plan")
	t.Plan.CheckBandwidths(p, "/plan", t.BandwidthsMbps[:min(len(t.BandwidthsMbps), MaxBandwidths)])
	checkSet(p, "/attachment_types", t.AttachmentTypes, AttachmentDot1Q)
	if t.Changes != nil {
		checkSet(p, "/changes/in_place", t.Changes.InPlace, changes...)
	}
	t.checkOfferedTo(p, providerID)
	t.SLA.check(p, "/sla")
	if t.Metering != "" {
		p.OneOf("/metering", t.Metering, MeteringPlatform, MeteringProvider)
	}
	if in.ID != "" {
		p.Check(t.LocationID == in.ID, "/location_id", "must be the location of the port, %s", in.ID)
		p.Check(location.SameMetro(t.Metro, in.Metro), "/metro", "must be the metro of the port's location, %s", in.Metro)
	} else {
		p.Check(t.LocationID == "", "/location_id", "is not the location of the port")
	}

	p.ID("/port_id", domain.PrefixPort, t.PortID)
	known := at.ID != "" && at.ID == t.PortID && at.OrganisationID == providerID
	p.Check(known, "/port_id", "is not a port of the provider")
	p.Check(len(t.BandwidthsMbps) >= 1 && len(t.BandwidthsMbps) <= MaxBandwidths, "/bandwidths_mbps", "must hold 1 to %d bandwidths", MaxBandwidths)
	if len(t.BandwidthsMbps) > MaxBandwidths {
		return
	}
	for i, mbps := range t.BandwidthsMbps {
		here := domain.Pointer("/bandwidths_mbps", i)
		p.Mbps(here, mbps)
		p.Check(!slices.Contains(t.BandwidthsMbps[:i], mbps), here, "%d is listed twice", mbps)
		p.Check(!known || mbps <= at.CapacityMbps, here, "is more than the port's capacity, %d", at.CapacityMbps)
	}
}

// checkSet records values that are none of a closed set, or there twice.
func checkSet(p *domain.Problems, at string, values []string, set ...string) {
	p.Check(len(values) <= len(set), at, "must hold at most %d values", len(set))
	if len(values) > len(set) {
		return
	}
	for i, v := range values {
		here := domain.Pointer(at, i)
		p.OneOf(here, v, set...)
		p.Check(!slices.Contains(values[:i], v), here, "%.40s is there twice", v)
	}
}

func (t Terms) checkOfferedTo(p *domain.Problems, providerID string) {
	p.Check(len(t.OfferedTo) <= MaxOfferedTo, "/offered_to", "must name at most %d organisations", MaxOfferedTo)
	if len(t.OfferedTo) > MaxOfferedTo {
		return
	}
	for i, id := range t.OfferedTo {
		here := domain.Pointer("/offered_to", i)
		p.ID(here, domain.PrefixOrganisation, id)
		p.Check(!slices.Contains(t.OfferedTo[:i], id), here, "%.40s is there twice", id)
		p.Check(id != providerID, here, "the provider sees its own listings")
	}
}

// How finely an SLA can be said, in digits after the point of a percentage: 99.9999 percent is under three seconds a month.
const (
	availabilityDigits = 4
	creditDigits       = 2
)

func (s *SLA) check(p *domain.Problems, at string) {
	if s == nil {
		return
	}
	hundred := domain.DecimalFromInt(100)
	p.Check(s.Availability.Sign() > 0 && s.Availability.Cmp(hundred) <= 0, at+"/availability", "must be above 0 and at most 100 percent")
	p.Check(s.Availability.Fits(availabilityDigits), at+"/availability", "must have at most %d digits after the point", availabilityDigits)
	p.Check(s.RepairHours >= 0 && s.RepairHours <= MaxRepairHours, at+"/repair_hours", "must be 0 to %d", MaxRepairHours)
	p.Check(len(s.Credits) <= MaxCredits, at+"/credits", "must hold at most %d credits", MaxCredits)
	if len(s.Credits) > MaxCredits {
		return
	}
	for i, c := range s.Credits {
		here := domain.Pointer(at+"/credits", i)
		p.Check(c.Below.Sign() > 0 && c.Below.Cmp(hundred) <= 0, here+"/below", "must be above 0 and at most 100 percent")
		p.Check(c.Below.Fits(availabilityDigits), here+"/below", "must have at most %d digits after the point", availabilityDigits)
		p.Check(c.Percent.Sign() > 0 && c.Percent.Cmp(hundred) <= 0, here+"/percent", "must be above 0 and at most 100")
		p.Check(c.Percent.Fits(creditDigits), here+"/percent", "must have at most %d digits after the point", creditDigits)
		if i == 0 {
			p.Check(c.Below.Cmp(s.Availability) <= 0, here+"/below", "must be at most the promised availability, %s: nothing is given back for what is kept", s.Availability)
			continue
		}
		before := s.Credits[i-1]
		p.Check(c.Below.Cmp(before.Below) < 0, here+"/below", "must be below the credit's before, %s: the mildest comes first", before.Below)
		p.Check(c.Percent.Cmp(before.Percent) > 0, here+"/percent", "must be above the credit's before, %s: less availability gives more back", before.Percent)
	}
}

// sameTerms compares what would be recorded, byte for byte. Both have been validated, so both have JSON.
func sameTerms(a, b Terms) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

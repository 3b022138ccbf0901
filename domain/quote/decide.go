package quote

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"crossbill/domain"
	"crossbill/domain/connection"
	"crossbill/domain/feeschedule"
	"crossbill/domain/listing"
	"crossbill/domain/pricing"
)

// Limits on a quote.
const (
	MaxValidity = 90 * 24 * time.Hour

	// MaxEstimatedGB is more than the fastest port ([domain.MaxMbps]) moves both ways in a month of 31 days.
	MaxEstimatedGB = 1_000_000_000
)

// estimateDigits is how many digits an estimate in GB may have after the point: it then is a whole number of bytes.
const estimateDigits = 9

// Command is what can be asked of a quote.
type Command interface{ command() }

// Issue makes a quote from what a listing offers at the moment.
type Issue struct {
	QuoteID       string
	CustomerID    string
	Listing       listing.State // zero for one that does not exist
	BandwidthMbps int           // one of the listing's
	EstimatedGB   domain.Decimal
	EstimatedMbps domain.Decimal      // the 95th percentile; only percentile charges depend on it
	Fee           feeschedule.Version // in force at At
	ValidFor      time.Duration       // above 0, at most [MaxValidity]
	Connection    *connection.State   // that it changes; nil for a new one
	At            time.Time
}

// Accept records that an order is placed from the quote. The same order again does nothing.
type Accept struct {
	OrderID string
	At      time.Time
}

// Withdraw takes a quote back from which no order was placed. Withdrawing a withdrawn quote does nothing.
type Withdraw struct {
	At time.Time
}

func (Issue) command()    {}
func (Accept) command()   {}
func (Withdraw) command() {}

// Decide returns the events that a command makes of a state. It returns an Invalid error for wrong fields, with pointers
// into the request for a quote; NotFound for a quote or listing that does not exist or is not on the market; a Conflict
// for a quote that has expired, was withdrawn, or was accepted by another order.
func Decide(s State, c Command) ([]domain.Event, error) {
	const op = "quote.Decide"
	if issue, ok := c.(Issue); ok {
		if s.QuoteID != "" {
			return nil, domain.Exists(op, "quote", s.QuoteID)
		}
		return issue.decide(op)
	}
	if s.QuoteID == "" {
		return nil, domain.Missing(op, "quote")
	}
	switch c := c.(type) {
	case Accept:
		if s.State == StateAccepted && s.OrderID == c.OrderID {
			return nil, nil
		}
		var p domain.Problems
		p.ID("/order_id", domain.PrefixOrder, c.OrderID)
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		if err := s.Usable(op, c.At); err != nil {
			return nil, err
		}
		return []domain.Event{Accepted{QuoteID: s.QuoteID, OrderID: c.OrderID, At: domain.Instant(c.At)}}, nil
	case Withdraw:
		switch s.State {
		case StateWithdrawn:
			return nil, nil
		case StateAccepted:
			return nil, domain.InState(op, "quote", s.QuoteID, s.State).WithHint("cancel the order %s", s.OrderID)
		}
		var p domain.Problems
		p.Time("/at", c.At)
		if err := p.Err(op); err != nil {
			return nil, err
		}
		return []domain.Event{Withdrawn{QuoteID: s.QuoteID, At: domain.Instant(c.At)}}, nil
	}
	return nil, domain.UnknownCommand(op, c)
}

// Usable returns a Conflict unless an order can be placed from the quote at a time.
func (s State) Usable(op string, now time.Time) error {
	if state := s.StateAt(now); state != StateIssued {
		return domain.InState(op, "quote", s.QuoteID, state).WithHint("ask for a new quote")
	}
	return nil
}

func (c Issue) decide(op string) ([]domain.Event, error) {
	version, terms, ok := c.Listing.OnOffer(c.CustomerID, c.At)
	if !ok {
		return nil, domain.Missing(op, "listing").WithHint("search the listings that are on the market")
	}
	if err := c.check(op, terms); err != nil {
		return nil, err
	}
	q := Issued{
		QuoteID: c.QuoteID, CustomerID: c.CustomerID, ProviderID: c.Listing.ProviderID, ListingID: c.Listing.ID,
		ListingVersion: version, BandwidthMbps: c.BandwidthMbps, EstimatedGB: c.EstimatedGB, Plan: terms.Plan,
		FeeScheduleID: c.Fee.FeeScheduleID, FeeScheduleVersion: c.Fee.Version, BasisPoints: c.Fee.BasisPoints, EstimatedMbps: c.EstimatedMbps,
		At: domain.Instant(c.At), ValidUntil: domain.Instant(c.At.Add(c.ValidFor)), SLA: terms.SLA,
	}
	if !c.Fee.FeeTerms.None() {
		q.FeeTerms = &c.Fee.FeeTerms
	}
	if err := q.price(op, c.Connection != nil); err != nil {
		return nil, err
	}
	if c.Connection != nil {
		if err := q.changes(op, *c.Connection, terms); err != nil {
			return nil, err
		}
		// A month is one invoice in one currency, and the change falls into one.
		if before, ok := c.Listing.TermsOf(c.Connection.ListingVersion); ok && before.Plan.Currency != terms.Plan.Currency {
			return nil, domain.Errorf(domain.Conflict, op, "the connection %s is billed in %s, and the listing's newest version is priced in %s",
				c.Connection.ID, before.Plan.Currency, terms.Plan.Currency).WithHint("order a new connection, and end this one")
		}
	}
	q.Hash = Hash(q)
	return []domain.Event{q}, nil
}

func (c Issue) check(op string, terms listing.Terms) error {
	var p domain.Problems
	p.ID("/quote_id", domain.PrefixQuote, c.QuoteID)
	p.ID("/customer_id", domain.PrefixOrganisation, c.CustomerID)
	p.Check(slices.Contains(terms.BandwidthsMbps, c.BandwidthMbps), "/bandwidth_mbps", "must be one of %v", terms.BandwidthsMbps)
	if _, err := terms.Plan.For(c.BandwidthMbps); slices.Contains(terms.BandwidthsMbps, c.BandwidthMbps) && err != nil {
		p.Add("/bandwidth_mbps", "has no price in the listing")
	}
	p.Check(c.EstimatedGB.Sign() >= 0, "/estimated_gb", "must not be negative")
	p.Check(c.EstimatedGB.Cmp(domain.DecimalFromInt(MaxEstimatedGB)) <= 0, "/estimated_gb", "must be at most %d", MaxEstimatedGB)
	p.Check(c.EstimatedGB.Fits(estimateDigits), "/estimated_gb", "must have at most %d digits after the point", estimateDigits)
	checkEstimatedMbps(&p, c.EstimatedMbps)
	p.Check(c.ValidFor > 0 && c.ValidFor <= MaxValidity, "/valid_for", "must be above 0 and at most %s", MaxValidity)
	p.Time("/at", c.At)
	p.ID("/fee_schedule_id", domain.PrefixFeeSchedule, c.Fee.FeeScheduleID)
	p.Check(!c.Fee.EffectiveFrom.After(c.At), "/fee_schedule_id", "is not in force yet")
	return p.Err(op)
}

// price computes the lines. A connection that is running already is charged nothing once.
func (q *Issued) price(op string, running bool) error {
	priced, err := Price(q.Plan, Content(*q).Fees(), pricing.Expected{
		BandwidthMbps: q.BandwidthMbps, Bytes: q.EstimatedGB.Round(estimateDigits), // one GB is 10⁹ bytes
		Mbps: q.EstimatedMbps, Running: running,
	})
	if err != nil {
		return tooLarge(op, err)
	}
	q.Lines, q.Passthrough, q.Fee, q.Total, q.OneTime = priced.Lines, priced.Passthrough, priced.Fee, priced.Total, priced.OneTime
	return nil
}

// tooLarge makes an overflow the request's fault: the only thing in it without a price of its own is the estimate.
func tooLarge(op string, cause error) error {
	e := domain.Errorf(domain.Invalid, op, "the estimate comes to more money than can be billed: %w", cause)
	e.Fields = []domain.FieldError{{Pointer: "/estimated_gb", Detail: "is too large for this listing's prices"}}
	return e
}

// Hash returns the SHA-256, in lower-case hexadecimal, of the quote's content: its JSON as the log holds it, with an
// empty hash. An order that names it has seen every line. It panics on a quote without JSON, which no Decide makes.
func Hash(q Issued) string {
	q.Hash = ""
	content, err := json.Marshal(q)
	if err != nil {
		panic("quote: a quote without JSON: " + err.Error())
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

package payout

import (
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

var (
	id           = scenario.ID(domain.PrefixPayout, 1)
	provider     = scenario.ID(domain.PrefixOrganisation, 2)
	settlementID = scenario.ID(domain.PrefixSettlement, 1)
	creditNote   = scenario.ID(domain.PrefixCreditNote, 1)
)

func usd(minor int64) domain.Money { return domain.Money{Minor: minor, Currency: "USD"} }

func requested() Requested {
	return Requested{PayoutID: id, ProviderID: provider, SettlementID: settlementID, InvoiceID: scenario.ID(domain.PrefixInvoice, 1),
		PaymentID: scenario.ID(domain.PrefixPayment, 1), Processor: "stripe", Destination: "acct_1", Source: "ch_1", Amount: usd(61443), At: scenario.After(0)}
}
func sent() Sent { return Sent{id, provider, settlementID, usd(61443), "tr_1", scenario.After(1)} }
func paid() Paid { return Paid{id, provider, "po_1", scenario.After(2)} }
func failed() Failed {
	return Failed{id, provider, settlementID, usd(61443), "account_closed", scenario.After(1)}
}
func reversalRequested(n int, minor int64) ReversalRequested {
	return ReversalRequested{id, n, creditNote, usd(minor), scenario.After(3)}
}
func reversed(n int, minor int64) Reversed {
	return Reversed{id, provider, settlementID, n, creditNote, usd(minor), "trr_1", scenario.After(4)}
}
func refused(n int, minor int64) ReversalFailed {
	return ReversalFailed{id, n, usd(minor), "balance_insufficient", scenario.After(4)}
}

func TestPayout(t *testing.T) {
	t.Parallel()
	given := func(events ...domain.Event) []domain.Event { return append([]domain.Event{requested()}, events...) }
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "request", When: Request{requested()}, Then: []domain.Event{requested()}},
		{Name: "request again", Given: given(), When: Request{requested()}, Code: domain.Conflict},
		{Name: "request nothing", When: Request{}, Code: domain.Invalid, Fields: []string{"/payout_id", "/provider_id", "/settlement_id", "/invoice_id",
			"/payment_id", "/processor", "/destination", "/amount", "/amount/currency", "/at"}},
		{Name: "send", Given: given(), When: Send{"tr_1", scenario.After(1)}, Then: []domain.Event{sent()}},
		{Name: "send again", Given: given(sent()), When: Send{"tr_1", scenario.After(9)}},
		{Name: "send again, after it was paid", Given: given(sent(), paid()), When: Send{"tr_1", scenario.After(9)}},
		{Name: "send as another", Given: given(sent()), When: Send{"tr_2", scenario.After(9)}, Code: domain.Conflict},
		{Name: "send what failed", Given: given(failed()), When: Send{"tr_1", scenario.After(9)}, Code: domain.Conflict},
		{Name: "pay", Given: given(sent()), When: Pay{"po_1", scenario.After(2)}, Then: []domain.Event{paid()}},
		{Name: "pay again", Given: given(sent(), paid()), When: Pay{"po_2", scenario.After(9)}},
		{Name: "pay what is not sent", Given: given(), When: Pay{"po_1", scenario.After(2)}, Code: domain.Conflict},
		{Name: "fail", Given: given(), When: Fail{"account_closed", scenario.After(1)}, Then: []domain.Event{failed()}},
		{Name: "fail again", Given: given(failed()), When: Fail{"account_closed", scenario.After(9)}},
		{Name: "fail what was sent", Given: given(sent()), When: Fail{"account_closed", scenario.After(9)}, Code: domain.Conflict},
		{Name: "reverse", Given: given(sent()), When: RequestReversal{creditNote, usd(100), scenario.After(3)}, Then: []domain.Event{reversalRequested(1, 100)}},
		{Name: "reverse what is paid", Given: given(sent(), paid()), When: RequestReversal{creditNote, usd(61443), scenario.After(3)}, Then: []domain.Event{reversalRequested(1, 61443)}},
		{Name: "reverse more than is left", Given: given(sent(), reversalRequested(1, 100)), When: RequestReversal{creditNote, usd(61344), scenario.After(3)},
			Code: domain.Invalid, Fields: []string{"/amount"}},
		{Name: "what was not reversed is left", Given: given(sent(), reversalRequested(1, 100), refused(1, 100)), When: RequestReversal{creditNote, usd(61443), scenario.After(3)},
			Then: []domain.Event{reversalRequested(2, 61443)}},
		{Name: "reverse what may not be sent", Given: given(), When: RequestReversal{creditNote, usd(1), scenario.After(3)}, Code: domain.Conflict},
		{Name: "reversed", Given: given(sent(), reversalRequested(1, 100)), When: Reverse{1, "trr_1", scenario.After(4)}, Then: []domain.Event{reversed(1, 100)}},
		{Name: "reversed again", Given: given(sent(), reversalRequested(1, 100), reversed(1, 100)), When: Reverse{1, "trr_1", scenario.After(9)}},
		{Name: "reversed as another", Given: given(sent(), reversalRequested(1, 100), reversed(1, 100)), When: Reverse{1, "trr_2", scenario.After(9)}, Code: domain.Conflict},
		{Name: "not reversed", Given: given(sent(), reversalRequested(1, 100)), When: FailReversal{1, "balance_insufficient", scenario.After(4)}, Then: []domain.Event{refused(1, 100)}},
		{Name: "not reversed though it was", Given: given(sent(), reversalRequested(1, 100), reversed(1, 100)), When: FailReversal{1, "x", scenario.After(9)}, Code: domain.Conflict},
		{Name: "no such reversal", Given: given(sent()), When: Reverse{1, "trr_1", scenario.After(4)}, Code: domain.NotFound},
		{Name: "send nothing", When: Send{"tr_1", scenario.After(1)}, Code: domain.NotFound},
		{Name: "no command", Code: domain.Internal},
	})
}

func TestKept(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		given []domain.Event
		want  int64
	}{
		"none":         {nil, 0},
		"requested":    {[]domain.Event{requested()}, 61443},
		"failed":       {[]domain.Event{requested(), failed()}, 0},
		"reversing":    {[]domain.Event{requested(), sent(), reversalRequested(1, 443)}, 61000},
		"reversed":     {[]domain.Event{requested(), sent(), paid(), reversalRequested(1, 443), reversed(1, 443)}, 61000},
		"not reversed": {[]domain.Event{requested(), sent(), reversalRequested(1, 443), refused(1, 443)}, 61443},
	} {
		if got := scenario.Fold(Evolve, c.given...).Kept(); got.Minor != c.want {
			t.Errorf("%s: %s is kept, not %s", name, got, usd(c.want))
		}
	}
}

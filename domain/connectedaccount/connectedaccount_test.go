package connectedaccount

import (
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/payment"
)

var provider = scenario.ID(domain.PrefixOrganisation, 2)

func TestAccount(t *testing.T) {
	t.Parallel()
	requested := Requested{provider, payment.Stripe, "NL", scenario.After(0)}
	opened := Opened{provider, "acct_1", scenario.After(1)}
	changed := Changed{provider, true, false, []string{"external_account", "tos_acceptance.date"}, scenario.After(2)}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "request", When: Request(requested), Then: []domain.Event{requested}},
		{Name: "request again", Given: []domain.Event{requested}, When: Request(requested)},
		{Name: "request elsewhere", Given: []domain.Event{requested}, When: Request{provider, payment.Stripe, "DE", scenario.After(0)}, Code: domain.Conflict},
		{Name: "request nothing", When: Request{}, Code: domain.Invalid, Fields: []string{"/organisation_id", "/processor", "/country", "/at"}},
		{Name: "open", Given: []domain.Event{requested}, When: Open{"acct_1", scenario.After(1)}, Then: []domain.Event{opened}},
		{Name: "open again", Given: []domain.Event{requested, opened}, When: Open{"acct_1", scenario.After(9)}},
		{Name: "open as another", Given: []domain.Event{requested, opened}, When: Open{"acct_2", scenario.After(9)}, Code: domain.Conflict},
		{Name: "open nothing", When: Open{"acct_1", scenario.After(9)}, Code: domain.NotFound},
		{Name: "change", Given: []domain.Event{requested, opened}, When: Change{true, false, []string{"tos_acceptance.date", "external_account"}, scenario.After(2)},
			Then: []domain.Event{changed}},
		{Name: "change again", Given: []domain.Event{requested, opened, changed}, When: Change{true, false, []string{"external_account", "tos_acceptance.date"}, scenario.After(9)}},
		{Name: "change before it is known", Given: []domain.Event{requested}, When: Change{true, true, nil, scenario.After(2)}, Code: domain.Conflict},
		{Name: "no command", Given: []domain.Event{requested}, Code: domain.Internal},
	})
}

package domain_test

import (
	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/budget"
	"crossbill/domain/connection"
	"crossbill/domain/exchangerate"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/invoice"
	"crossbill/domain/listing"
	"crossbill/domain/order"
	"crossbill/domain/taxrate"
)

// personsDetails are those of an account whose holder is a person: every text that can be personal is.
func personsDetails() billingaccount.Details {
	return billingaccount.Details{
		Name: "Networks", InvoiceCurrency: "EUR", PurchaseOrder: "PO-2026-7", PersonID: "mem_1",
		Holder: billingaccount.Holder{Kind: billingaccount.HolderPerson, LegalName: "The holder's name", Address: &billingaccount.Address{
			Lines: []string{"First hall", "Quay 1"}, PostalCode: "1011", City: "Amsterdam", Region: "North Holland", Country: "NL"}},
		TaxIDs:  []billingaccount.TaxID{{Country: "NL", Number: "NL123456789B13"}},
		Contact: &billingaccount.Contact{Email: "invoices@customer.example", Name: "The contact's name"},
	}
}

func financePersons() []domain.Personal {
	accountID := scenario.ID(domain.PrefixBillingAccount, 1)
	return []domain.Personal{
		billingaccount.Opened{BillingAccountID: accountID, OrganisationID: customer, Details: reachable(personsDetails()), At: at},
		billingaccount.Changed{BillingAccountID: accountID, OrganisationID: customer, Details: reachable(personsDetails()), At: at},
	}
}

// reachable gives details an electronic address, which they came to have later.
func reachable(d billingaccount.Details) billingaccount.Details {
	d.EndpointScheme, d.EndpointID = billingaccount.SchemeEmail, "ada@customer.example"
	return d
}

func financeSamples() []domain.Event {
	accountID, budgetID := scenario.ID(domain.PrefixBillingAccount, 1), scenario.ID(domain.PrefixBudget, 1)
	details := personsDetails()
	scope := budget.Scope{Kind: budget.ScopeConnection, ID: connectionID}
	terms := budget.Terms{Name: "Interconnection", Amount: usd(100000), Thresholds: []int{50, 100}}
	return []domain.Event{
		billingaccount.Opened{BillingAccountID: accountID, OrganisationID: customer, Details: details, At: at},
		billingaccount.Changed{BillingAccountID: accountID, OrganisationID: customer, Details: details, At: at},
		billingaccount.Opened{BillingAccountID: accountID, OrganisationID: customer, Details: reachable(details), At: at},
		billingaccount.Changed{BillingAccountID: accountID, OrganisationID: customer, Details: reachable(details), At: at},
		billingaccount.MadeDefault{BillingAccountID: accountID, At: at},
		billingaccount.Closed{BillingAccountID: accountID, At: at},
		billingaccount.DefaultSet{OrganisationID: customer, BillingAccountID: accountID, At: at},
		budget.Opened{BudgetID: budgetID, OrganisationID: customer, Scope: scope, Terms: terms, At: at},
		budget.Changed{BudgetID: budgetID, Terms: terms, At: at},
		budget.Closed{BudgetID: budgetID, At: at},
		budget.ThresholdReached{BudgetID: budgetID, OrganisationID: customer, Scope: scope, Name: "Interconnection", Month: "2026-03",
			Percent: 50, Amount: usd(100000), Spent: usd(50001), LogPosition: 1234, At: at},
		taxrate.Set{Country: "NL", Category: taxrate.CategoryStandard, Version: 2, Percent: domain.MustDecimal("21"),
			Reason: "Said in other categories", EffectiveFrom: april, At: at},
		exchangerate.Set{Base: "EUR", Quote: "USD", Version: 7, Rate: domain.MustDecimal("1.0956"), Source: "ECB euro foreign exchange reference rate",
			EffectiveFrom: april, At: at},
		invoice.Issued{
			InvoiceID: invoiceID, Number: "CB-000001", CustomerID: customer, PeriodStart: march, PeriodEnd: april, Currency: "USD",
			Passthrough: usd(0), Fee: usd(0), Total: usd(0), LogPosition: 1234, RunID: runID, At: april, BillingAccountID: accountID,
		},
		order.Placed{
			OrderID: orderID, QuoteID: quoteID, QuoteHash: hash, CustomerID: customer, ProviderID: provider, ListingID: listingID,
			ListingVersion: 1, ConnectionID: connectionID, PortID: customerPort, BandwidthMbps: 100, BGP: customerBGP,
			Approval: listing.ApprovalManual, Deadline: april, BillingAccountID: accountID, At: at,
		},
		connection.Requested{
			ConnectionID: connectionID, OrderID: orderID, QuoteID: quoteID, CustomerID: customer, ProviderID: provider, ListingID: listingID,
			ListingVersion: 1, BandwidthMbps: 100, CustomerPortID: customerPort, ProviderPortID: providerPort, CustomerBGP: customerBGP,
			ProviderBGP: providerBGP, BillingAccountID: accountID, At: at,
		},
	}
}

package domain_test

import (
	"time"

	"crossbill/domain"
	"crossbill/domain/billingaccount"
	"crossbill/domain/billingrun"
	"crossbill/domain/connection"
	"crossbill/domain/creditnote"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/invoice"
	"crossbill/domain/issuer"
	"crossbill/domain/numberseries"
	"crossbill/domain/settlement"
	"crossbill/domain/tax"
	"crossbill/domain/taxrate"
)

// laterBooks are what invoices and settlements came to say later: taxes, adjustments, conversions; and what corrects them.
func laterBooks() []domain.Event {
	accountID, settlementID := scenario.ID(domain.PrefixBillingAccount, 1), scenario.ID(domain.PrefixSettlement, 1)
	creditNoteID := scenario.ID(domain.PrefixCreditNote, 1)
	due := april.AddDate(0, 0, 30)
	reverse := tax.Treatment{Category: taxrate.CategoryReverseCharge, Country: "NL", Percent: domain.MustDecimal("0"), Reason: "Reverse charge", Version: 1}
	standard := tax.Treatment{Category: taxrate.CategoryStandard, Country: "NL", Percent: domain.MustDecimal("21"), Version: 2}
	subtotal := func(t tax.Treatment, minor int64) tax.Subtotal {
		s, err := t.Of(usd(minor))
		if err != nil {
			panic(err)
		}
		return s
	}
	february := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	days := invoice.Evidence{Stream: "usage-" + connectionID, FromVersion: 1, ToVersion: 99, Count: 98, Digest: hash, From: &february, To: &march}
	line := invoice.Line{
		Number: 1, ItemID: "item-9", Kind: invoice.LinePassthrough, ProviderID: provider, ConnectionID: connectionID, ChargeID: "traffic",
		Description: "Traffic", Quantity: "1000", Unit: "GB", Exact: "10", Amount: usd(1000), Steps: []string{"353.46 − 343.46 = 10.00"},
		Plan: invoice.PlanRef{ListingID: listingID, Version: 1}, QuoteID: quoteID,
		Evidence:    []invoice.Evidence{{Stream: connection.Stream(connectionID), FromVersion: 1, ToVersion: 9, Count: 2, Digest: hash}, days},
		TaxCategory: taxrate.CategoryReverseCharge,
		Adjusts:     &invoice.Adjustment{PeriodStart: february, PeriodEnd: march, Billed: usd(34346)},
		Converted:   &invoice.Conversion{Amount: "9.25", Currency: "EUR", Rate: domain.MustDecimal("1.0956"), RateVersion: 7},
	}
	credited := []settlement.CreditedLine{{ItemID: "item-1", Amount: usd(13549)}}
	return []domain.Event{
		invoice.Issued{
			InvoiceID: invoiceID, Number: "CB-000002", CustomerID: customer, PeriodStart: march, PeriodEnd: april, Currency: "USD",
			Lines: []invoice.Line{line}, Passthrough: usd(1000), Fee: usd(0), Total: usd(1210), LogPosition: 1234, RunID: runID, At: april,
			BillingAccountID: accountID, BillingAccountVersion: 3, IssuerVersion: 2, PurchaseOrder: "PO-2026-7",
			Taxes: []tax.Subtotal{subtotal(reverse, 1000), subtotal(standard, 1000)}, Tax: usd(210), DueAt: &due,
			Reissue: scenario.ID(domain.PrefixInvoice, 9),
		},
		invoice.Paid{InvoiceID: invoiceID, Reference: "bank-7", At: april, Amount: usd(1000)},
		invoice.Credited{InvoiceID: invoiceID, CreditNoteID: creditNoteID, Number: "CN-2026-000001", Lines: []invoice.CreditedLine{{Line: 1, Amount: usd(500)}},
			Total: usd(605), At: april},
		settlement.Issued{
			SettlementID: settlementID, ProviderID: provider, PeriodStart: march, PeriodEnd: april, Currency: "USD",
			Lines: []settlement.Line{{ItemID: "item-9", InvoiceID: invoiceID, ConnectionID: connectionID, ChargeID: "traffic", Description: "Traffic",
				Amount: usd(1000), InvoiceLine: 1, TaxCategory: taxrate.CategoryReverseCharge, Adjusts: &february}},
			Total: usd(1000), LogPosition: 1234, RunID: runID, At: april, Number: "ST-2026-000001", ProviderAccountID: accountID,
			ProviderAccountVersion: 3, IssuerVersion: 2, Taxes: []tax.Subtotal{subtotal(reverse, 1000), subtotal(standard, 1000)}, Tax: usd(210),
		},
		settlement.Credited{SettlementID: settlementID, Number: "SC-2026-000001", CreditNoteID: creditNoteID, Reason: "Outage", Lines: credited,
			Total: usd(13549), Taxes: []tax.Subtotal{subtotal(reverse, 13549), subtotal(standard, 100)}, Tax: usd(21), At: april},
		settlement.Credited{SettlementID: settlementID, Number: "SC-2026-000002", InvoiceID: invoiceID, Reason: "Void", Lines: credited, Total: usd(13549), At: april},
		creditnote.Issued{
			CreditNoteID: creditNoteID, Number: "CN-2026-000001", InvoiceID: invoiceID, InvoiceNumber: "CB-000001", CustomerID: customer, Reason: "Outage",
			PeriodStart: march, PeriodEnd: april, Currency: "USD",
			Lines: []creditnote.Line{{Number: 1, InvoiceLine: 1, ItemID: "item-1", Kind: invoice.LinePassthrough, ProviderID: provider, ConnectionID: connectionID,
				Description: "Port", Exact: "135.485", Amount: usd(13549), Steps: []string{"270.97 × 0.5 = 135.485"}, TaxCategory: taxrate.CategoryStandard}},
			Passthrough: usd(13549), Fee: usd(406), Taxes: []tax.Subtotal{subtotal(reverse, 13549), subtotal(standard, 406)}, Tax: usd(85), Total: usd(14040),
			Settlements: []string{settlementID}, At: april, BillingAccountID: accountID, BillingAccountVersion: 3, IssuerVersion: 2, PurchaseOrder: "PO-2026-7",
		},
		numberseries.Taken{Series: numberseries.CreditNotes, Number: 1, DocumentID: creditNoteID},
		issuer.Set{Issuer: "crossbill", Version: 1, At: april, Details: issuer.Details{
			LegalName: "Neutral Ground B.V.", Address: billingaccount.Address{Lines: []string{"Quay 1"}, PostalCode: "1011", City: "Amsterdam", Region: "North Holland", Country: "NL"},
			TaxIDs: []billingaccount.TaxID{{Country: "NL", Number: "NL123456789B13"}}, Registration: "12345678",
			Contact: &billingaccount.Contact{Email: "billing@platform.example", Name: "Billing"}, EndpointScheme: "0106", EndpointID: "12345678",
			IBAN: "NL91ABNA0417164300", BIC: "ABNANL2A", TermsDays: 30,
		}},
		billingrun.Completed{RunID: runID, PeriodStart: march, PeriodEnd: april, LogPosition: 99, Invoices: []string{}, Settlements: []string{}, At: april,
			InvoiceCount: 20000, SettlementCount: 300},
		billingrun.Requested{RunID: runID, PeriodStart: march, PeriodEnd: april, GraceSeconds: 172800, At: april},
		billingrun.Ended{RunID: runID, LogPosition: 1234, Issued: 1, Invoices: []string{invoiceID}, Settlements: []string{settlementID},
			InvoiceCount: 1, SettlementCount: 1, ProblemCount: 1, At: april, Problems: []billingrun.Problem{
				{ConnectionID: connectionID, Code: domain.Conflict, Detail: "No rate from EUR to USD", Hint: "Record one"}}},
		billingrun.Failed{RunID: runID, Code: domain.Conflict, Detail: "No rate from EUR to USD", Hint: "Record one", At: april},
		billingrun.PeriodAdjusted{ConnectionID: connectionID, PeriodStart: february, PeriodEnd: march, UsageVersion: 120, InvoiceID: invoiceID,
			SettlementID: settlementID, RunID: runID, At: april},
		billingrun.PeriodReopened{ConnectionID: connectionID, PeriodStart: february, PeriodEnd: march, InvoiceID: invoiceID, At: april},
	}
}

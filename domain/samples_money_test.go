package domain_test

import (
	"crossbill/domain"
	"crossbill/domain/connectedaccount"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/payment"
	"crossbill/domain/payout"
)

// moneySamples are what moves money: payments of customers and payouts to providers.
func moneySamples() []domain.Event {
	paymentID, payoutID := scenario.ID(domain.PrefixPayment, 1), scenario.ID(domain.PrefixPayout, 1)
	creditNoteID := scenario.ID(domain.PrefixCreditNote, 1)
	return []domain.Event{
		payment.Requested{PaymentID: paymentID, InvoiceID: invoiceID, CustomerID: customer, Processor: payment.Stripe, Amount: usd(63286), At: at},
		payment.Opened{PaymentID: paymentID, Reference: "pi_1", At: at},
		payment.Repriced{PaymentID: paymentID, Amount: usd(50000), At: at},
		payment.Cancelled{PaymentID: paymentID, Reason: "The invoice is void", At: at},
		payment.Received{PaymentID: paymentID, InvoiceID: invoiceID, CustomerID: customer, Processor: payment.Stripe, Reference: "pi_1", Charge: "ch_1",
			Amount: usd(63286), ProcessingCost: usd(1865), At: at},
		payment.Costed{PaymentID: paymentID, InvoiceID: invoiceID, ProcessingCost: usd(1865), At: at},
		payment.Failed{PaymentID: paymentID, Reference: "pi_1", Reason: "card_declined", At: at},
		payment.RefundRequested{PaymentID: paymentID, Refund: 1, CreditNoteID: creditNoteID, Amount: usd(13955), At: at},
		payment.Refunded{PaymentID: paymentID, InvoiceID: invoiceID, CustomerID: customer, Refund: 1, CreditNoteID: creditNoteID, Reference: "re_1",
			Amount: usd(13955), At: at},
		payment.RefundFailed{PaymentID: paymentID, InvoiceID: invoiceID, CustomerID: customer, Refund: 1, CreditNoteID: creditNoteID, Reference: "re_1",
			Amount: usd(13955), Reason: "expired_or_canceled_card", At: at},
		payment.Disputed{PaymentID: paymentID, InvoiceID: invoiceID, CustomerID: customer, Dispute: "du_1", Amount: usd(63286), Reason: "product_not_received", At: at},
		payment.DisputeClosed{PaymentID: paymentID, InvoiceID: invoiceID, CustomerID: customer, Dispute: "du_1", Outcome: payment.DisputeLost,
			Amount: usd(63286), Cost: usd(1500), At: at},
		payout.Requested{PayoutID: payoutID, ProviderID: provider, SettlementID: settlementID, InvoiceID: invoiceID, PaymentID: paymentID,
			Processor: payment.Stripe, Destination: "acct_1", Source: "ch_1", Amount: usd(61443), At: at},
		payout.Sent{PayoutID: payoutID, ProviderID: provider, SettlementID: settlementID, Amount: usd(61443), Transfer: "tr_1", At: at},
		payout.Paid{PayoutID: payoutID, ProviderID: provider, Reference: "po_1", At: at},
		payout.Failed{PayoutID: payoutID, ProviderID: provider, SettlementID: settlementID, Amount: usd(61443), Reason: "account_closed", At: at},
		payout.ReversalRequested{PayoutID: payoutID, Reversal: 1, Credit: creditNoteID, Amount: usd(13549), At: at},
		payout.Reversed{PayoutID: payoutID, ProviderID: provider, SettlementID: settlementID, Reversal: 1, Credit: creditNoteID, Amount: usd(13549),
			Reference: "trr_1", At: at},
		payout.ReversalFailed{PayoutID: payoutID, Reversal: 1, Amount: usd(13549), Reason: "balance_insufficient", At: at},
		connectedaccount.Requested{OrganisationID: provider, Processor: payment.Stripe, Country: "NL", At: at},
		connectedaccount.Opened{OrganisationID: provider, Account: "acct_1", At: at},
		connectedaccount.Changed{OrganisationID: provider, Transfers: true, BankPayouts: true, Requirements: []string{"external_account"}, At: at},
	}
}

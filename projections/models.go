package projections

import "slices"

var models = []Projection{
	{Name: "marketplace", Apply: applyMarketplace, Tables: []string{"read_listings", "read_listing_prices", "read_private_listings", "read_private_listing_prices"}},
	{Name: "orders", Apply: applyOrders, Tables: []string{"read_orders"}},
	{Name: "quotes", Apply: applyQuotes, Tables: []string{"read_quotes"}},
	{Name: "service_keys", Apply: applyServiceKeys, Tables: []string{"read_service_keys"}},
	{Name: "redundancy_groups", Apply: applyRedundancyGroups, Tables: []string{"read_redundancy_groups"}},
	{Name: "connections", Apply: applyConnections, Tables: []string{"read_connections", "read_edge_revisions", "read_edge_changes"}},
	{Name: availabilityModel, Apply: applyAvailability, Tables: []string{"read_availability", "read_interruptions"}},
	{Name: "usage", Apply: applyUsage, Tables: []string{"read_readings", "read_usage"}},
	{Name: "invoices", Apply: applyInvoices, Tables: []string{"read_invoices"}},
	{Name: "settlements", Apply: applySettlements, Tables: []string{"read_settlements", "read_revenue"}},
	{Name: "credit_notes", Apply: applyCreditNotes, Tables: []string{"read_credit_notes"}},
	{Name: "settled_items", Apply: applySettledItems, Tables: []string{"read_settled_items"}},
	{Name: "recurring_revenue", Apply: applyRecurring, Tables: []string{"read_recurring_prices", "read_recurring_terms"}},
	{Name: LedgerModel, Apply: applyLedger, Tables: []string{"ledger_transactions", "ledger_entries"}},
	{Name: "fees", Apply: applyFees, Tables: []string{"read_fee_schedules"}},
	{Name: "billing_accounts", Apply: applyBillingAccounts, Tables: []string{"read_billing_accounts", "read_billing_defaults"}},
	{Name: "budgets", Apply: applyBudgets, Tables: []string{"read_budgets", "read_budget_alerts"}},
	{Name: "tax_rates", Apply: applyTaxRates, Tables: []string{"read_tax_rates"}},
	{Name: "exchange_rates", Apply: applyExchangeRates, Tables: []string{"read_exchange_rates"}},
	{Name: "inventory", Apply: applyInventory, Tables: []string{"read_edge_nodes", "read_ports", "read_locations"}},
	{Name: "own_listings", Apply: applyOwnListings, Tables: []string{"read_own_listings"}},
	{Name: "organisations", Apply: applyOrganisations, Tables: []string{"read_organisations"}},
	{Name: "api_keys", Apply: applyAPIKeys, Tables: []string{"read_api_keys"}},
	{Name: SlicesModel, Apply: applySlices, Tables: []string{"read_event_slices", "read_event_heads"}},
}

// All returns the read models' projections. Each writes its own tables only and reads no other's, so they may run apart
// and be rebuilt one by one.
func All() []Projection { return slices.Clone(models) }

// Tables returns the tables of the named read model, or nil if there is none of that name.
func Tables(name string) []string {
	for _, m := range models {
		if m.Name == name {
			return slices.Clone(m.Tables)
		}
	}
	return nil
}

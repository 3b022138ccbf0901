package projections

import "slices"

// model is a read model: the projection that writes it and the tables that are its own.
type model struct {
	Projection
	tables []string
}

var models = []model{
	{Projection{Name: "marketplace", Apply: applyMarketplace}, []string{"read_listings"}},
	{Projection{Name: "orders", Apply: applyOrders}, []string{"read_orders"}},
	{Projection{Name: "connections", Apply: applyConnections}, []string{"read_connections", "read_edge_revisions"}},
	{Projection{Name: "usage", Apply: applyUsage}, []string{"read_readings", "read_usage"}},
	{Projection{Name: "invoices", Apply: applyInvoices}, []string{"read_invoices"}},
	{Projection{Name: "settlements", Apply: applySettlements}, []string{"read_settlements"}},
	{Projection{Name: "fees", Apply: applyFees}, []string{"read_fee_schedules"}},
	{Projection{Name: "inventory", Apply: applyInventory}, []string{"read_edge_nodes", "read_ports"}},
}

// All returns the read models' projections. Each writes its own tables only and reads no other's, so they may run apart
// and be rebuilt one by one. Their SQL names tables without a schema: a rebuild runs the same code with another
// search_path, beside the tables that are in use.
func All() []Projection {
	all := make([]Projection, len(models))
	for i, m := range models {
		all[i] = m.Projection
	}
	return all
}

// Tables returns the tables of the named read model, or nil if there is none of that name.
func Tables(name string) []string {
	for _, m := range models {
		if m.Name == name {
			return slices.Clone(m.tables)
		}
	}
	return nil
}

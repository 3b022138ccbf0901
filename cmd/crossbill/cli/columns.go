package cli

// columns says which fields of a thing people look for in a list, in order; a dot goes into an object. What is not here
// is listed with its first simple fields.
var columns = map[string][]string{
	"Listing":    {"id", "terms.title", "terms.category", "terms.metro", "terms.bandwidths_mbps", "price.total", "version", "state"},
	"Order":      {"id", "state", "bandwidth_mbps", "listing_id", "connection_id", "placed_at", "reason"},
	"Connection": {"id", "state", "billing", "bandwidth_mbps", "edge_node_id", "attachment.vlan", "billing_from"},
	"Quote":      {"id", "state", "bandwidth_mbps", "passthrough", "fee", "total", "valid_until"},
	"Invoice":    {"id", "number", "state", "period_start", "passthrough", "fee", "total"},
	"Settlement": {"id", "period_start", "total", "issued_at"},
	"Event":      {"position", "recorded_at", "type", "stream", "version", "actor"},
	"Reading":    {"from", "to", "bytes_in", "bytes_out", "packets_in", "packets_out", "source"},

	"InvoiceLine":    {"number", "kind", "description", "quantity", "unit", "exact", "amount"},
	"QuoteLine":      {"kind", "charge_id", "description", "amount"},
	"SettlementLine": {"connection_id", "charge_id", "description", "amount"},
	"Session":        {"side", "state", "since", "prefixes_received", "prefixes_sent"},
}

// maxColumns bounds a list whose columns nobody chose.
const maxColumns = 7

package domain

// BGP is a party's side of the BGP sessions of its connections.
type BGP struct {
	ASN      uint32   `json:"asn"`
	Prefixes []string `json:"prefixes"` // the prefixes it may announce, in CIDR form; any other is refused
}

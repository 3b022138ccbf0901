package api_test

import (
	"net/url"
	"time"

	"crossbill/api/client"
)

func init() {
	operationLists = append(operationLists, func(m *market) []operation {
		now := time.Now().UTC()
		window := url.Values{"from": {now.Add(-time.Hour).Format(time.RFC3339)}, "to": {now.Format(time.RFC3339)}}
		return []operation{
			{"getPayoutAccount", "GET", "/v1/payout-account", m.providerKey, nil},
			{"connectPayoutAccount", "POST", "/v1/payout-account", m.providerKey,
				client.NewPayoutAccount{Country: "NL", ReturnUrl: "https://provider.example", RefreshUrl: "https://provider.example"}},
			{"reconcilePayments", "GET", "/v1/payment-reconciliation?" + window.Encode(), m.operatorKey, nil},
		}
	})
}

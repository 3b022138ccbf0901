package provisioning

import (
	"context"

	"crossbill/domain"
	"crossbill/domain/qualification"
)

// UseOf returns what connections hold now of two ports and of an edge node, in one look at the reservations. It is for
// telling beforehand whether there is room; what is given away is looked at again when it is reserved.
func UseOf(ctx context.Context, db querier, portA, portZ, edgeNodeID string) (a, z qualification.Use, tags int, err error) {
	// Each arm reads its scope's rows by the primary key, which kind and scope lead.
	const query = `
		SELECT (SELECT coalesce(sum(mbps), 0) FROM reservations WHERE kind = 'vlan' AND scope = $1),
		       (SELECT count(*)               FROM reservations WHERE kind = 'vlan' AND scope = $1),
		       (SELECT coalesce(sum(mbps), 0) FROM reservations WHERE kind = 'vlan' AND scope = $2),
		       (SELECT count(*)               FROM reservations WHERE kind = 'vlan' AND scope = $2),
		       (SELECT count(*)               FROM reservations WHERE kind = 'tag'  AND scope = $3)`
	err = db.QueryRow(ctx, query, portA, portZ, edgeNodeID).Scan(&a.Mbps, &a.VLANs, &z.Mbps, &z.VLANs, &tags)
	if err != nil {
		return a, z, 0, domain.Errorf(domain.Unavailable, "provisioning.UseOf", "the reservations could not be read: %w", err).
			WithHint("try again in a moment")
	}
	return a, z, tags, nil
}

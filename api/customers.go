package api

import "context"

// ListCustomers lists who ever ordered of the caller. Whom a provider deals with it may know by name.
func (s *Server) ListCustomers(ctx context.Context, req ListCustomersRequestObject) (ListCustomersResponseObject, error) {
	found, next, err := s.Queries.CustomersOf(ctx, callerFrom(ctx).OrganisationID, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(found))
	for _, c := range found {
		ids = append(ids, c.ID)
	}
	names, err := s.Platform.OrganisationNames(ctx, ids)
	if err != nil {
		return nil, err
	}
	page := CustomerPage{Items: []Customer{}, NextPageToken: optional(next)}
	for _, c := range found {
		page.Items = append(page.Items, Customer{
			Id: c.ID, Name: optional(names[c.ID]), Orders: c.Orders, FirstOrderAt: c.FirstOrderAt.UTC(), LastOrderAt: c.LastOrderAt.UTC(), Connections: c.Connections,
		})
	}
	return ListCustomers200JSONResponse(page), nil
}

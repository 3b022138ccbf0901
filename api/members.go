package api

import (
	"context"
	"net/http"

	"crossbill/domain"
	"crossbill/domain/organisation"
)

// ListMembers shows who acts for an organisation. Names are read from the log, so that an erasure reaches them at once.
func (s *Server) ListMembers(ctx context.Context, req ListMembersRequestObject) (ListMembersResponseObject, error) {
	state, version, err := s.loadOrganisation(ctx, req.OrganisationId)
	if err != nil {
		return nil, err
	}
	list := MemberList{Items: []Member{}}
	for _, m := range state.Members {
		if m.RemovedAt == nil {
			list.Items = append(list.Items, memberView(m, true))
		}
	}
	return ListMembers200JSONResponse{Body: list, Headers: ListMembers200ResponseHeaders{ETag: etag(version)}}, nil
}

// AddMember lets a person act for the organisation.
func (s *Server) AddMember(ctx context.Context, req AddMemberRequestObject) (AddMemberResponseObject, error) {
	id, err := s.newID(domain.PrefixMember)
	if err != nil {
		return nil, err
	}
	view, position, err := s.changeMember(ctx, req.OrganisationId, req.Params.IfMatch, id, http.StatusCreated, organisation.AddMember{
		MemberID: id, Name: req.Body.Name, Email: valueOr(req.Body.Email, ""), Role: organisation.MemberRole(req.Body.Role), At: s.now(),
	})
	if err != nil {
		return nil, err
	}
	return AddMember201JSONResponse{Body: view, Headers: AddMember201ResponseHeaders{CrossbillPosition: position}}, nil
}

// SetMemberRole gives a member another role.
func (s *Server) SetMemberRole(ctx context.Context, req SetMemberRoleRequestObject) (SetMemberRoleResponseObject, error) {
	view, position, err := s.changeMember(ctx, req.OrganisationId, req.Params.IfMatch, req.MemberId, http.StatusOK,
		organisation.ChangeMemberRole{MemberID: req.MemberId, Role: organisation.MemberRole(req.Body.Role), At: s.now()})
	if err != nil {
		return nil, err
	}
	return SetMemberRole200JSONResponse{Body: view, Headers: SetMemberRole200ResponseHeaders{CrossbillPosition: position}}, nil
}

// RemoveMember ends a person's acting for the organisation, and with it the person's keys.
func (s *Server) RemoveMember(ctx context.Context, req RemoveMemberRequestObject) (RemoveMemberResponseObject, error) {
	var position *int64
	if err := onlyFor(ctx, req.OrganisationId, "organisation itself"); err != nil {
		return nil, s.unlessUnseen(ctx, req.OrganisationId, err)
	}
	err := s.onOrganisation(ctx, req.OrganisationId, req.Params.IfMatch, organisation.RemoveMember{MemberID: req.MemberId, At: s.now()},
		http.StatusNoContent, func(organisation.State) any { return nil }, &position)
	if err != nil {
		return nil, err
	}
	return RemoveMember204Response{Headers: RemoveMember204ResponseHeaders{CrossbillPosition: position}}, nil
}

// changeMember decides a command about a member. The answer that is kept for repetitions has no text about the person.
func (s *Server) changeMember(ctx context.Context, organisationID string, ifMatch *string, memberID string, status int, command organisation.Command) (view Member, position *int64, _ error) {
	if err := onlyFor(ctx, organisationID, "organisation itself"); err != nil {
		return view, nil, s.unlessUnseen(ctx, organisationID, err)
	}
	err := s.onOrganisation(ctx, organisationID, ifMatch, command, status, func(o organisation.State) any {
		m, _ := o.Member(memberID)
		view = memberView(m, true)
		return memberView(m, false)
	}, &position)
	return view, position, err
}

// unlessUnseen is NotFound for an organisation that the caller may not see, and err for any other.
func (s *Server) unlessUnseen(ctx context.Context, organisationID string, err error) error {
	if _, _, unseen := s.loadOrganisation(ctx, organisationID); unseen != nil {
		return unseen
	}
	return err
}

func memberView(m organisation.Member, withPersonal bool) Member {
	v := Member{Id: m.ID, Role: MemberRole(m.Role), AddedAt: m.AddedAt}
	if withPersonal {
		v.Name, v.Email = optional(m.Name), optional(m.Email)
	}
	return v
}

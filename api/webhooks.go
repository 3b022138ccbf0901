package api

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"crossbill/api/webhooks"
	"crossbill/domain"
	"crossbill/domain/vocabulary"
	"crossbill/domain/webhook"
	"crossbill/events"
	"crossbill/projections"
)

func (s *Server) loadWebhook(ctx context.Context, id string) (webhook.State, int64, error) {
	state, version, err := load(ctx, s, "webhook", id, webhook.Stream(id), webhook.Evolve,
		func(w webhook.State) []string { return []string{w.OrganisationID} })
	if err == nil && state.State == webhook.StateDeleted {
		return webhook.State{}, 0, notFound("webhook", id)
	}
	return state, version, err
}

// ListWebhooks lists the webhooks of the caller's organisation. They are few, so each is read from the log.
func (s *Server) ListWebhooks(ctx context.Context, _ ListWebhooksRequestObject) (ListWebhooksResponseObject, error) {
	found, err := s.Queries.WebhooksOf(ctx, callerFrom(ctx).OrganisationID)
	if err != nil {
		return nil, err
	}
	list := WebhookList{Items: []Webhook{}}
	for _, progress := range found {
		state, _, err := s.loadWebhook(ctx, progress.WebhookID)
		if domain.CodeOf(err) == domain.NotFound { // it was deleted meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, webhookView(state, progress))
	}
	return ListWebhooks200JSONResponse(list), nil
}

// CreateWebhook makes a webhook with a secret of its own.
func (s *Server) CreateWebhook(ctx context.Context, req CreateWebhookRequestObject) (CreateWebhookResponseObject, error) {
	b := req.Body
	id, err := s.newID(domain.PrefixWebhook)
	if err != nil {
		return nil, err
	}
	secret, err := s.newSecret()
	if err != nil {
		return nil, err
	}
	target := webhook.Target{URL: b.Url, Types: b.Types, Description: valueOr(b.Description, "")}
	if err := s.checkTarget(ctx, target); err != nil {
		return nil, err
	}
	head, err := s.Log.Head(ctx)
	if err != nil {
		return nil, err
	}
	organisation, after := callerFrom(ctx).OrganisationID, valueOr(b.After, int64(head.Position))
	decided, err := webhook.Decide(webhook.State{}, webhook.Create{
		WebhookID: id, OrganisationID: organisation, Target: target, Secret: secret, After: after, Anywhere: s.Webhooks.Anywhere, At: s.now(),
	})
	if err != nil {
		return nil, err
	}
	answer := WebhookWithSecret{Webhook: webhookView(evolved(webhook.State{}, webhook.Evolve, decided), projections.WebhookProgress{Position: after})}
	position, err := s.commit(ctx, events.Append{
		Streams: []events.StreamAppend{appendTo(webhook.Stream(id), 0, decided...)},
		Ask:     webhooks.Start(id, organisation, target.Types, after),
	}, http.StatusCreated, answer, organisation) // the kept answer is without the secret
	if err != nil {
		return nil, err
	}
	answer.Secret = secret
	return CreateWebhook201JSONResponse{Body: answer, Headers: CreateWebhook201ResponseHeaders{CrossbillPosition: position}}, nil
}

// checkTarget refuses types that there are not and a name that stands for a private address.
func (s *Server) checkTarget(ctx context.Context, t webhook.Target) error {
	var p domain.Problems
	_, unknown := vocabulary.Matching(t.Types...)
	for _, pattern := range unknown {
		p.Add("/types", "there is no event type %.80s", pattern)
	}
	if err := p.Err("api.checkTarget"); err != nil {
		return err
	}
	return s.Webhooks.CheckTarget(ctx, t.URL)
}

func (s *Server) newSecret() (string, error) {
	var random [32]byte
	if _, err := io.ReadFull(s.Random, random[:]); err != nil {
		return "", domain.Errorf(domain.Internal, "api.newSecret", "the random source failed: %w", err)
	}
	return webhook.SecretPrefix + base64.StdEncoding.EncodeToString(random[:]), nil
}

// GetWebhook shows a webhook to its organisation.
func (s *Server) GetWebhook(ctx context.Context, req GetWebhookRequestObject) (GetWebhookResponseObject, error) {
	state, version, err := s.loadWebhook(ctx, req.WebhookId)
	if err != nil {
		return nil, err
	}
	progress, err := s.Queries.Webhook(ctx, state.ID)
	if err != nil {
		return nil, err
	}
	return GetWebhook200JSONResponse{Body: webhookView(state, progress), Headers: GetWebhook200ResponseHeaders{ETag: etag(version)}}, nil
}

// changeWebhook carries a command out and returns the webhook as it then is.
func (s *Server) changeWebhook(ctx context.Context, id string, ifMatch *string, status int, command webhook.Command, ask func(context.Context, pgx.Tx) error) (view Webhook, position *int64, _ error) {
	err := again(ifMatch, func() error {
		state, version, err := s.loadWebhook(ctx, id)
		if err != nil {
			return err
		}
		if err := onlyFor(ctx, state.OrganisationID, "organisation that has the webhook"); err != nil {
			return err
		}
		if err := checkMatch(ifMatch, version); err != nil {
			return err
		}
		decided, err := webhook.Decide(state, command)
		if err != nil {
			return err
		}
		progress, err := s.Queries.Webhook(ctx, id)
		if err != nil {
			return err
		}
		view = webhookView(evolved(state, webhook.Evolve, decided), progress)
		if len(decided) == 0 {
			return nil
		}
		var answer any = view
		switch c := command.(type) {
		case webhook.Rewind:
			view.Delivery.Position, view.Delivery.FailedAttempts, view.Delivery.NextAttemptAt = c.After, 0, nil
			answer = view
		case webhook.Enable:
			view.Delivery.FailedAttempts, view.Delivery.FailingSince, view.Delivery.NextAttemptAt = 0, nil, nil
			answer = view
		case webhook.RotateSecret: // the kept answer is without the secret
			answer = WebhookWithSecret{Webhook: view}
		case webhook.ReplayDeadLetter, webhook.Delete:
			answer = nil
		}
		position, err = s.commit(ctx, events.Append{
			Streams: []events.StreamAppend{appendTo(webhook.Stream(id), version, decided...)}, Ask: ask,
		}, status, answer, state.OrganisationID)
		return err
	})
	return view, position, err
}

// UpdateWebhook gives a webhook another target.
func (s *Server) UpdateWebhook(ctx context.Context, req UpdateWebhookRequestObject) (UpdateWebhookResponseObject, error) {
	if _, _, err := s.loadWebhook(ctx, req.WebhookId); err != nil { // before anything of the target is looked up
		return nil, err
	}
	target := webhook.Target{URL: req.Body.Url, Types: req.Body.Types, Description: valueOr(req.Body.Description, "")}
	if err := s.checkTarget(ctx, target); err != nil {
		return nil, err
	}
	view, position, err := s.changeWebhook(ctx, req.WebhookId, req.Params.IfMatch, http.StatusOK,
		webhook.Update{Target: target, Anywhere: s.Webhooks.Anywhere, At: s.now()}, webhooks.Retarget(req.WebhookId, target.Types))
	if err != nil {
		return nil, err
	}
	return UpdateWebhook200JSONResponse{Body: view, Headers: UpdateWebhook200ResponseHeaders{CrossbillPosition: position}}, nil
}

// DeleteWebhook ends a webhook.
func (s *Server) DeleteWebhook(ctx context.Context, req DeleteWebhookRequestObject) (DeleteWebhookResponseObject, error) {
	_, position, err := s.changeWebhook(ctx, req.WebhookId, req.Params.IfMatch, http.StatusNoContent, webhook.Delete{At: s.now()}, webhooks.Forget(req.WebhookId))
	if err != nil {
		return nil, err
	}
	return DeleteWebhook204Response{Headers: DeleteWebhook204ResponseHeaders{CrossbillPosition: position}}, nil
}

// RotateWebhookSecret signs with a new secret.
func (s *Server) RotateWebhookSecret(ctx context.Context, req RotateWebhookSecretRequestObject) (RotateWebhookSecretResponseObject, error) {
	secret, err := s.newSecret()
	if err != nil {
		return nil, err
	}
	overlap := time.Duration(valueOr(req.Body.OverlapSeconds, int((24*time.Hour).Seconds()))) * time.Second
	view, position, err := s.changeWebhook(ctx, req.WebhookId, req.Params.IfMatch, http.StatusOK,
		webhook.RotateSecret{Secret: secret, Overlap: overlap, At: s.now()}, nil)
	if err != nil {
		return nil, err
	}
	return RotateWebhookSecret200JSONResponse{
		Body: WebhookWithSecret{Webhook: view, Secret: secret}, Headers: RotateWebhookSecret200ResponseHeaders{CrossbillPosition: position},
	}, nil
}

// DisableWebhook lets nothing more be sent.
func (s *Server) DisableWebhook(ctx context.Context, req DisableWebhookRequestObject) (DisableWebhookResponseObject, error) {
	view, position, err := s.changeWebhook(ctx, req.WebhookId, req.Params.IfMatch, http.StatusOK,
		webhook.Disable{Reason: webhook.ReasonRequest, At: s.now()}, webhooks.Stop(req.WebhookId))
	if err != nil {
		return nil, err
	}
	return DisableWebhook200JSONResponse{Body: view, Headers: DisableWebhook200ResponseHeaders{CrossbillPosition: position}}, nil
}

// EnableWebhook lets a webhook go on.
func (s *Server) EnableWebhook(ctx context.Context, req EnableWebhookRequestObject) (EnableWebhookResponseObject, error) {
	view, position, err := s.changeWebhook(ctx, req.WebhookId, req.Params.IfMatch, http.StatusOK, webhook.Enable{At: s.now()}, webhooks.Resume(req.WebhookId))
	if err != nil {
		return nil, err
	}
	return EnableWebhook200JSONResponse{Body: view, Headers: EnableWebhook200ResponseHeaders{CrossbillPosition: position}}, nil
}

// ReplayWebhook sends everything past a position again.
func (s *Server) ReplayWebhook(ctx context.Context, req ReplayWebhookRequestObject) (ReplayWebhookResponseObject, error) {
	view, position, err := s.changeWebhook(ctx, req.WebhookId, req.Params.IfMatch, http.StatusAccepted,
		webhook.Rewind{After: req.Body.After, At: s.now()}, webhooks.Rewind(req.WebhookId, req.Body.After))
	if err != nil {
		return nil, err
	}
	return ReplayWebhook202JSONResponse{Body: view, Headers: ReplayWebhook202ResponseHeaders{CrossbillPosition: position}}, nil
}

// ReplayWebhookDeadLetter has one dead letter tried again.
func (s *Server) ReplayWebhookDeadLetter(ctx context.Context, req ReplayWebhookDeadLetterRequestObject) (ReplayWebhookDeadLetterResponseObject, error) {
	_, position, err := s.changeWebhook(ctx, req.WebhookId, nil, http.StatusAccepted,
		webhook.ReplayDeadLetter{Position: req.Position, At: s.now()}, webhooks.Replay(req.WebhookId, req.Position))
	if err != nil {
		return nil, err
	}
	return ReplayWebhookDeadLetter202Response{Headers: ReplayWebhookDeadLetter202ResponseHeaders{CrossbillPosition: position}}, nil
}

// TestWebhook makes one attempt with an event that says nothing.
func (s *Server) TestWebhook(ctx context.Context, req TestWebhookRequestObject) (TestWebhookResponseObject, error) {
	state, _, err := s.loadWebhook(ctx, req.WebhookId)
	if err != nil {
		return nil, err
	}
	if err := onlyFor(ctx, state.OrganisationID, "organisation that has the webhook"); err != nil {
		return nil, err
	}
	id, err := s.newEventID()
	if err != nil {
		return nil, err
	}
	now := s.now()
	m := webhooks.TestMessage(id, state.ID, now)
	result := s.Webhooks.Send(ctx, state.Target.URL, state.Secrets(now), m, now)
	return TestWebhook200JSONResponse{
		MessageId: m.ID, Delivered: result.OK, StatusCode: optional(result.Status), Error: optional(result.Error), LatencyMs: int(result.Latency.Milliseconds()),
	}, nil
}

// ListWebhookDeliveries lists the newest attempts.
func (s *Server) ListWebhookDeliveries(ctx context.Context, req ListWebhookDeliveriesRequestObject) (ListWebhookDeliveriesResponseObject, error) {
	if _, _, err := s.loadWebhook(ctx, req.WebhookId); err != nil {
		return nil, err
	}
	found, next, err := s.Queries.WebhookDeliveries(ctx, req.WebhookId, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := WebhookDeliveryPage{Items: []WebhookDelivery{}, NextPageToken: optional(next)}
	for _, a := range found {
		page.Items = append(page.Items, WebhookDelivery{
			MessageId: a.MessageID, Position: a.Position, Type: a.Type, Attempt: a.Attempt, Outcome: WebhookDeliveryOutcome(a.Outcome),
			StatusCode: a.StatusCode, Error: a.Error, LatencyMs: a.LatencyMS, At: a.At,
		})
	}
	return ListWebhookDeliveries200JSONResponse(page), nil
}

// ListWebhookDeadLetters lists what was given up.
func (s *Server) ListWebhookDeadLetters(ctx context.Context, req ListWebhookDeadLettersRequestObject) (ListWebhookDeadLettersResponseObject, error) {
	if _, _, err := s.loadWebhook(ctx, req.WebhookId); err != nil {
		return nil, err
	}
	found, next, err := s.Queries.WebhookDeadLetters(ctx, req.WebhookId, valueOr(req.Params.Limit, 100), valueOr(req.Params.PageToken, ""))
	if err != nil {
		return nil, err
	}
	page := WebhookDeadLetterPage{Items: []WebhookDeadLetter{}, NextPageToken: optional(next)}
	for _, a := range found {
		page.Items = append(page.Items, WebhookDeadLetter{
			MessageId: a.MessageID, Position: a.Position, Type: a.Type, Attempts: a.Attempt, StatusCode: a.StatusCode, Error: a.Error,
			Replaying: a.Replaying, DiedAt: a.At,
		})
	}
	return ListWebhookDeadLetters200JSONResponse(page), nil
}

func webhookView(s webhook.State, p projections.WebhookProgress) Webhook {
	return Webhook{
		Id: s.ID, OrganisationId: s.OrganisationID, State: WebhookState(s.State), Reason: (*WebhookReason)(optional(s.Reason)),
		Detail: optional(s.Detail), Url: s.Target.URL, Types: s.Target.Types, Description: optional(s.Target.Description),
		CreatedAt: s.CreatedAt, PreviousSecretUntil: optional(s.PreviousUntil), Delivery: WebhookProgress{
			Position: p.Position, FailedAttempts: p.Attempts, FailingSince: p.FailingSince, NextAttemptAt: p.NextAttemptAt, DeadLetters: p.DeadLetters,
		},
	}
}

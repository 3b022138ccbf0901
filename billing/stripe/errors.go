package stripe

import (
	"errors"
	"net/http"
	"strings"
	"unicode"

	"github.com/stripe/stripe-go/v79"

	"crossbill/domain"
)

// failed maps an error of stripe-go. Whatever may have another outcome next time is Unavailable, and repeating it is
// safe: the key makes sure that what may have happened does not happen twice.
func failed(op string, err error) error {
	const again = "try again: a repetition makes nothing twice"
	if ours := (*domain.Error)(nil); errors.As(err, &ours) { // it did not get as far as Stripe
		return err
	}
	var e *stripe.Error
	if !errors.As(err, &e) { // no answer: the network, a time-out, or the caller gave up
		return domain.Errorf(domain.Unavailable, op, "Stripe gave no answer: %w", err).WithHint(again)
	}
	status := e.HTTPStatusCode
	switch {
	case e.Type == stripe.ErrorTypeIdempotency && status != http.StatusConflict:
		return domain.Errorf(domain.Conflict, op, "Stripe has had this request with other content: %w", err).
			WithHint("what it was about has changed since; look it up at Stripe")
	case status >= http.StatusInternalServerError, status == http.StatusTooManyRequests, status == http.StatusConflict, status == http.StatusRequestTimeout:
		return domain.Errorf(domain.Unavailable, op, "Stripe answers %d at the moment: %w", status, err).WithHint(again)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return domain.Errorf(domain.Internal, op, "Stripe refuses the key: %w", err).WithHint("check Stripe's secret key and its permissions")
	case e.Type == stripe.ErrorTypeCard:
		return domain.Errorf(domain.Conflict, op, "the payment was declined: %w", err).WithHint("the payer has to choose another way to pay")
	case e.Code == stripe.ErrorCodeAmountTooSmall, e.Code == stripe.ErrorCodeAmountTooLarge:
		return domain.Errorf(domain.Invalid, op, "Stripe can't take this amount: %w", err).WithHint("have it paid by bank transfer")
	}
	return domain.Errorf(domain.Internal, op, "Stripe refuses the request: %w", err)
}

// refused returns why Stripe refused what it was asked for, if it did so for good: nothing was moved, and the same request
// would be refused again. The key and its permissions are not the request's fault.
func refused(err error) (reason string, ok bool) {
	var e *stripe.Error
	if !errors.As(err, &e) || e.Type == stripe.ErrorTypeIdempotency {
		return "", false
	}
	switch e.HTTPStatusCode {
	case http.StatusBadRequest, http.StatusPaymentRequired, http.StatusNotFound:
	default:
		return "", false
	}
	if reason = string(e.Code); reason == "" {
		reason = e.Msg
	}
	if reason == "" {
		reason = string(e.Type)
	}
	return line(reason, domain.MaxReason), true
}

// line makes one line of bounded length of a text that somebody else wrote.
func line(text string, limit int) string {
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))), " ")
	if runes := []rune(text); len(runes) > limit {
		text = string(runes[:limit])
	}
	return text
}

// isMissing reports whether Stripe has no such thing.
func isMissing(err error) bool {
	var e *stripe.Error
	return errors.As(err, &e) && e.HTTPStatusCode == http.StatusNotFound
}

package domain

import (
	"strings"
	"testing"
)

func TestCountry(t *testing.T) {
	t.Parallel()
	codes := strings.Fields(countries)
	if len(codes) != 249 { // officially assigned
		t.Errorf("there are %d codes", len(codes))
	}
	for i, c := range codes {
		if !Country(c).Valid() || i > 0 && codes[i-1] >= c {
			t.Errorf("%s is not valid, or out of order", c)
		}
	}
	for _, c := range []Country{"", "D", "de", "DEU", "XX", "EL", "UK", "E ", " A", "ED", "XI"} {
		if c.Valid() {
			t.Errorf("%q is a country", c)
		}
	}
}

package platform

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"crossbill/domain"
	"crossbill/events/pgtest"
)

// TestPoolConfig wants PostgreSQL to take the settings about machines that vanish, and the URL to have the last word.
func TestPoolConfig(t *testing.T) {
	t.Parallel()
	config, err := poolConfig(pgtest.URL(t) + "&tcp_keepalives_count=7")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for name := range vanished {
		var source string // the value is 0 on a Unix socket, whatever was asked for
		if err := conn.QueryRow(t.Context(), `SELECT source FROM pg_settings WHERE name = $1`, name).Scan(&source); err != nil || source != "client" {
			t.Errorf("%s comes from %q, %v", name, source, err)
		}
	}
	if got := config.ConnConfig.RuntimeParams["tcp_keepalives_count"]; got != "7" {
		t.Errorf("the URL's count became %s", got)
	}
	if _, err := poolConfig("postgres://%"); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("no URL: %v", err)
	}
}

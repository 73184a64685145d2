package api

import (
	"fmt"
	"log/slog"
	"testing"
)

// Everything that is wrong is said at once, and nothing is served then.
func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "<nil>"},
		{Config{PathPrefix: "/below", QueryBytes: 1, QueryParameters: 1, RequestMemory: 1}, "<nil>"},
		{
			Config{QueryBytes: -1, QueryParameters: -1, RequestMemory: -1},
			"QueryBytes is -1, must not be negative\nQueryParameters is -1, must not be negative\nRequestMemory is -1, must not be negative",
		},
	} {
		if err := tt.cfg.Validate(); fmt.Sprint(err) != tt.want {
			t.Errorf("%+v:\ngot  %v\nwant %s", tt.cfg, err, tt.want)
		}
	}
	if _, err := New(Config{QueryBytes: -1}, nil, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("an API was made of what is wrong")
	}
}

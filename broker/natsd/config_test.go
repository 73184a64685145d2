package natsd

import (
	"fmt"
	"log/slog"
	"testing"
	"time"
)

// Everything that is wrong is said at once, and no folder is made then.
func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{Dir: "data"}, "<nil>"},
		{Config{Dir: "data", SyncInterval: time.Second, SyncAlways: true}, "<nil>"},
		{Config{SyncInterval: -1}, "no data folder: Dir is empty\nSyncInterval is -1ns, must not be negative"},
	} {
		if err := tt.cfg.Validate(); fmt.Sprint(err) != tt.want {
			t.Errorf("%+v:\ngot  %v\nwant %s", tt.cfg, err, tt.want)
		}
	}
	if _, err := Start(t.Context(), Config{}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("started without a folder")
	}
	if got, want := (Config{Dir: "data"}).withDefaults(), (Config{Dir: "data", Name: DefaultName, SyncInterval: DefaultSyncInterval}); got != want {
		t.Errorf("defaults: got %+v, want %+v", got, want)
	}
}

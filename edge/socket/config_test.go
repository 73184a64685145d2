package socket

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// Every number of a Config is checked, and all that is wrong is said at once.
func TestConfigValidate(t *testing.T) {
	t.Parallel()
	var cfg Config
	var numbers []string
	v := reflect.ValueOf(&cfg).Elem()
	for i := range v.NumField() {
		if v.Field(i).CanInt() {
			v.Field(i).SetInt(-1)
			numbers = append(numbers, v.Type().Field(i).Name)
		}
	}
	_, err := NewServer(cfg, nil, nil, discard)
	for _, name := range numbers {
		if err == nil || !strings.Contains(err.Error(), name+" is -1") {
			t.Errorf("got %v, want a word on %s", err, name)
		}
	}
}

// What is set stays, and what a Config shares with its owner is not changed.
func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	budget := NewBudget(1, nil)
	cfg := Config{WriteTimeout: time.Hour, Budget: budget}
	got := cfg.withDefaults()
	if got.WriteTimeout != time.Hour || got.Budget != budget {
		t.Errorf("write timeout %s, budget replaced: %t", got.WriteTimeout, got.Budget != budget)
	}
	if got.MaxQueuedBytes != DefaultMaxQueuedBytes || got.HTTPBodyTimeout != DefaultHTTPBodyTimeout || cfg.MaxQueuedBytes != 0 {
		t.Errorf("got %+v", got)
	}
	if fresh := (Config{}).withDefaults().Budget; fresh.Limit() != DefaultQueueMemory {
		t.Errorf("a budget of %d bytes", fresh.Limit())
	}
}

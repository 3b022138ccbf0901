package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"crossbill/cmd/internal/bench"
)

// hit sends n requests from all clients and returns how many a second were answered well. Whatever else is answered is an
// error: a fast refusal is no speed.
func hit(ctx context.Context, n int, make func(i int) (*http.Request, error)) (float64, error) {
	begun := time.Now()
	err := together(clients, func(worker int) error {
		for i := worker; i < n; i += clients {
			r, err := make(i)
			if err != nil {
				return err
			}
			response, err := httpClient.Do(r.WithContext(ctx))
			if err != nil {
				return err
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil {
				return err
			}
			if response.StatusCode >= 300 || len(body) == 0 {
				return fmt.Errorf("%s answered %s: %.300s", r.URL.Path, response.Status, body)
			}
		}
		return nil
	})
	return bench.PerSecond(n, begun), err
}

// together runs n workers and returns the first of their errors.
func together(n int, work func(worker int) error) error {
	errs := make(chan error, n)
	var running sync.WaitGroup
	for worker := range n {
		running.Go(func() {
			if err := work(worker); err != nil {
				errs <- err
			}
		})
	}
	running.Wait()
	close(errs)
	return <-errs
}

// get is a GET with a key; without one for the bare handler.
func get(url, key string) (*http.Request, error) {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err == nil && key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	return r, err
}

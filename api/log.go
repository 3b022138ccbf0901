package api

import (
	"context"
	"net/http"
)

// GetHealth answers while the log can be read.
func (s *Server) GetHealth(ctx context.Context, _ GetHealthRequestObject) (GetHealthResponseObject, error) {
	head, err := s.Log.Head(ctx)
	if err != nil {
		return nil, err
	}
	return GetHealth200JSONResponse{Status: "ok", LogPosition: int64(head.Position)}, nil
}

// GetCheckpoint serves the signed checkpoint of the log as it is now.
func (s *Server) GetCheckpoint(ctx context.Context, _ GetCheckpointRequestObject) (GetCheckpointResponseObject, error) {
	note, err := s.Log.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return checkpointText(note), nil
}

// checkpointText is a checkpoint as C2SP tlog-tiles has it served: with its character set, and not from a cache.
type checkpointText []byte

func (c checkpointText) VisitGetCheckpointResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	_, err := w.Write(c)
	return err
}

// GetLogKey serves the key that checkpoints are verified with.
func (s *Server) GetLogKey(context.Context, GetLogKeyRequestObject) (GetLogKeyResponseObject, error) {
	return GetLogKey200TextResponse(s.VerifierKey + "\n"), nil
}

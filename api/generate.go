package api

//go:generate go tool oapi-codegen -config server.yaml openapi.yaml
//go:generate go tool oapi-codegen -config client/config.yaml openapi.yaml

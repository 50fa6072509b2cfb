module sidecar/test/jsonscan

go 1.26.0

require (
	github.com/go-json-experiment/json v0.0.0-20260820222146-c27c302e5fc3
	github.com/tidwall/gjson v1.20.0
	github.com/valyala/fastjson v1.6.10
	sidecar v0.0.0
)

require (
	github.com/tidwall/match v1.1.1 // indirect
	github.com/tidwall/pretty v1.2.0 // indirect
)

replace sidecar => ../..

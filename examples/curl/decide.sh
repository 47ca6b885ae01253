#!/bin/sh
# Asks a pool for the decision on one picture, over REST: decide.sh PICTURE [http://HOST:PORT]
set -eu
picture=$1
pool=${2:-http://127.0.0.1:8000}

size=$(wc -c < "$picture")
head='{"inputs":[{"name":"image","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":'$((size + 4))'}}],
"outputs":[{"name":"label"},{"name":"probability"}]}'
{
    printf %s "$head"
    # The picture's length in four bytes, the least first, and then the picture.
    for shift in 0 8 16 24; do
        printf "\\$(printf %03o $((size >> shift & 255)))"
    done
    cat "$picture"
} | curl --silent --show-error --fail-with-body --data-binary @- \
    -H 'Content-Type: application/octet-stream' -H "Inference-Header-Content-Length: ${#head}" \
    "$pool/v2/models/inspect/infer"
echo

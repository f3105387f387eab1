#!/usr/bin/env bash
# A Kubernetes API server for the tests, from the folder with the packed one: setup-kubernetes.sh PACKED DIR
# Prints DIR, which belongs into KUBEBUILDER_ASSETS.
#
# The packed 1.20.2 was built with a Go that is newer than two of its libraries can bear: it dies on the
# first custom resource (modern-go/reflect2 1.0.1 walks maps through a function whose signature changed),
# and would refuse empty strings ("" compares equal to null in kube-openapi's validator). The patch beside
# the tests turns it into a build of the same source with reflect2 1.0.2 and `data == nil` in
# kube-openapi/pkg/validation/validate/type.go, line 135. A packed server of another digest is taken as it is.
set -euo pipefail
packed=$1/kube-apiserver-1.20.2-linux-amd64.xz dir=$2
patch=$(cd "$(dirname "$0")/.." && pwd)/tests/assets/kube-apiserver-1.20.2.bsdiff
broken=59924a50677cb475d295e4522970d73f8a4dfbdc2ca576dfcd756431734aaf53
for need in "etcd etcd-server" "kubectl kubernetes-client" "bspatch bsdiff" "xz xz-utils" "openssl openssl"; do
    read -r program package <<< "$need"
    if ! command -v "$program" > /dev/null; then
        apt-get update -qq >&2
        apt-get install -y -qq "$package" >&2
    fi
done
mkdir -p "$dir"
if [ ! -x "$dir/kube-apiserver" ]; then
    xz -dc "$packed" > "$dir/unpacked"
    if [ "$(sha256sum < "$packed" | cut -d' ' -f1)" = "$broken" ]; then
        bspatch "$dir/unpacked" "$dir/patched" "$patch"
        mv "$dir/patched" "$dir/unpacked"
    fi
    chmod +x "$dir/unpacked"
    mv "$dir/unpacked" "$dir/kube-apiserver"
fi
echo "$dir"

#!/usr/bin/env bash
# Install or upgrade the chart: deploy.sh --namespace NAMESPACE [--values FILE]…   (--help says the rest)
set -euo pipefail
chart=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
release=mx namespace='' dry_run='' crds=yes timeout=5m
values=()

usage() {
  cat <<EOF
usage: deploy.sh --namespace NAMESPACE [--values FILE]… [options]

Installs the chart mx, or upgrades it if it is there, and waits until its servers are ready.

  -n, --namespace NAMESPACE  where to; it is made if it is not there
  -f, --values FILE          values over the chart's defaults; may be repeated, later ones win. A name that is
                             no file here is looked for beside this script: values-development.yaml,
                             values-local-storage.yaml, values-production.yaml
  -r, --release NAME         name of the release, and of its Service [mx]
  -d, --dry-run              change nothing: print what would be applied, as the cluster would take it
  -t, --timeout DURATION     how long to wait for the servers [5m]
      --skip-crds            leave the custom resource definitions alone; they need a cluster's administrator
  -u, --upgrade              accepted, and without effect: a release that is there is always upgraded
  -h, --help                 this text

Exit codes: 0 done, 1 Helm or the cluster refused, 2 wrong call, 3 a tool is missing, 4 no cluster answers.
EOF
}

fail() {
  local code=$1
  shift
  echo "error: $1" >&2
  shift
  for hint in "$@"; do echo "hint: $hint" >&2; done
  exit "$code"
}

operand() { [ $# -ge 2 ] && [ -n "$2" ] || fail 2 "$1 needs a value" "deploy.sh --help"; }

while [ $# -gt 0 ]; do
  case $1 in
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
    -n | --namespace) operand "$@" && namespace=$2 && shift ;;
    -f | --values) operand "$@" && values+=("$2") && shift ;;
    -r | --release | --release-name) operand "$@" && release=$2 && shift ;;
    -t | --timeout) operand "$@" && timeout=$2 && shift ;;
    -d | --dry-run) dry_run=server ;;
    --skip-crds) crds='' ;;
    -u | --upgrade) ;;
    -h | --help) usage && exit 0 ;;
    *) fail 2 "unknown argument: $1" "deploy.sh --help" ;;
  esac
  shift
done
[ -n "$namespace" ] || fail 2 "no namespace given" "deploy.sh --namespace NAMESPACE"

files=()
for file in ${values[@]+"${values[@]}"}; do
  [ -f "$file" ] || file=$chart/$file
  [ -f "$file" ] || fail 2 "no values file ${file#"$chart"/}, neither here nor beside deploy.sh"
  files+=(--values "$file")
done

for tool in helm kubectl; do
  command -v "$tool" >/dev/null || fail 3 "$tool is not installed, or not in PATH"
done
# /version answers without rights; its reason for not answering is kubectl's to tell.
if ! reason=$(kubectl version --request-timeout=10s 2>&1 >/dev/null); then
  fail 4 "no cluster answers: $(printf '%s' "$reason" | tail -n 1)" "kubectl config current-context names the one that was asked"
fi

# Helm installs definitions once and never again; this brings them up to date. Those of the published server have
# the same names and fewer members, so theirs are taken over.
if [ -n "$crds" ]; then
  kubectl apply --server-side --force-conflicts --field-manager=mx-deploy ${dry_run:+--dry-run=server} -f "$chart/crds" >&2 ||
    fail 1 "the custom resource definitions were refused" \
      "have a cluster's administrator run: kubectl apply --server-side -f $chart/crds" "or pass --skip-crds: only store.backend kubernetes needs them"
fi

helm_args=(--namespace "$namespace" --skip-crds ${files[@]+"${files[@]}"})
if [ -n "$dry_run" ]; then
  exec helm upgrade --install "$release" "$chart" "${helm_args[@]}" --dry-run="$dry_run"
fi
if ! helm upgrade --install "$release" "$chart" "${helm_args[@]}" --create-namespace --wait --timeout "$timeout"; then
  fail 1 "Helm did not finish; nothing was taken back" \
    "kubectl -n $namespace get pods,pvc -l app.kubernetes.io/instance=$release" \
    "kubectl -n $namespace get events --sort-by=.lastTimestamp" \
    "kubectl -n $namespace logs -l app.kubernetes.io/instance=$release --all-containers --tail=50"
fi

"""The fields that KubeRay 1.6.2 documents in its reference of ``ray.io/v1``, and those of Kubernetes that we use."""

FIELDS = {
    "RayCluster": {"apiVersion": str, "kind": str, "metadata": "Metadata", "spec": "RayClusterSpec"},
    "RayJob": {"apiVersion": str, "kind": str, "metadata": "Metadata", "spec": "RayJobSpec"},
    "RayJobSpec": {
        "activeDeadlineSeconds": int, "backoffLimit": int, "rayClusterSpec": "RayClusterSpec",
        "submitterPodTemplate": "PodTemplate", "metadata": dict, "clusterSelector": dict, "submitterConfig": dict,
        "managedBy": str, "deletionStrategy": dict, "entrypoint": str, "runtimeEnvYAML": str, "jobId": str,
        "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"}, "entrypointResources": str,
        "entrypointNumCpus": float, "entrypointNumGpus": float, "ttlSecondsAfterFinished": int,
        "preRunningDeadlineSeconds": int, "shutdownAfterJobFinishes": bool, "suspend": bool,
    },
    "RayClusterSpec": {
        "upgradeStrategy": dict, "authOptions": "AuthOptions", "suspend": bool, "managedBy": str,
        "autoscalerOptions": "AutoscalerOptions", "headServiceAnnotations": dict, "enableInTreeAutoscaling": bool,
        "gcsFaultToleranceOptions": "GcsFaultToleranceOptions", "headGroupSpec": "HeadGroupSpec", "rayVersion": str,
        "workerGroupSpecs": ["WorkerGroupSpec"],
    },
    "AuthOptions": {"enableK8sTokenAuth": bool, "secretName": str, "mode": {"disabled", "token"}},
    "AutoscalerOptions": {
        "resources": dict, "image": str, "imagePullPolicy": str, "securityContext": dict, "idleTimeoutSeconds": int,
        "upscalingMode": {"Default", "Aggressive", "Conservative"}, "version": {"v1", "v2"}, "env": list,
        "envFrom": list, "volumeMounts": list,
    },
    "GcsFaultToleranceOptions": {
        "redisUsername": "RedisCredential", "redisPassword": "RedisCredential", "externalStorageNamespace": str,
        "redisAddress": str,
    },
    "RedisCredential": {"valueFrom": "ValueFrom", "value": str},
    "HeadGroupSpec": {
        "template": "PodTemplate", "headService": dict, "enableIngress": bool, "resources": "Strings",
        "labels": "Strings", "rayStartParams": "Strings", "serviceType": str,
    },
    "WorkerGroupSpec": {
        "suspend": bool, "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int,
        "idleTimeoutSeconds": int, "resources": "Strings", "labels": "Strings", "rayStartParams": "Strings",
        "template": "PodTemplate", "scaleStrategy": dict, "numOfHosts": int,
    },
    "PodTemplate": {"metadata": "Metadata", "spec": "PodSpec"},
    "Metadata": {"name": str, "namespace": str, "labels": "Strings", "annotations": "Strings"},
    "PodSpec": {
        "containers": ["Container"], "volumes": ["Volume"], "tolerations": ["Toleration"], "nodeSelector": "Strings",
        "securityContext": "PodSecurityContext", "terminationGracePeriodSeconds": int,
    },
    "PodSecurityContext": {"runAsNonRoot": bool, "runAsUser": int, "runAsGroup": int, "fsGroup": int},
    "Toleration": {"key": str, "operator": {"Exists", "Equal"}, "value": str, "effect": str},
    "Container": {
        "name": str, "image": str, "command": list, "args": list, "resources": "Resources", "env": ["Variable"],
        "envFrom": ["VariablesFrom"], "ports": ["Port"], "volumeMounts": ["VolumeMount"],
    },
    "Resources": {"requests": "Strings", "limits": "Strings"},
    "Variable": {"name": str, "value": str, "valueFrom": "ValueFrom"},
    "VariablesFrom": {"secretRef": "Name", "configMapRef": "Name"},
    "ValueFrom": {"secretKeyRef": "KeyOfSecret"},
    "KeyOfSecret": {"name": str, "key": str, "optional": bool},
    "Name": {"name": str, "optional": bool},
    "Port": {"name": str, "containerPort": int, "protocol": str},
    "VolumeMount": {"name": str, "mountPath": str, "readOnly": bool, "subPath": str},
    "Volume": {"name": str, "persistentVolumeClaim": "Claim", "configMap": "Name", "emptyDir": "Memory"},
    "Claim": {"claimName": str, "readOnly": bool},
    "Memory": {"medium": {"", "Memory"}, "sizeLimit": str},
}  # fmt: skip
REQUIRED = {
    "RayCluster": {"spec"}, "RayJob": {"spec"}, "RayClusterSpec": {"headGroupSpec"},
    "HeadGroupSpec": {"template", "rayStartParams"}, "GcsFaultToleranceOptions": {"redisAddress"},
    "WorkerGroupSpec": {"template", "rayStartParams", "groupName", "minReplicas", "maxReplicas"},
    "PodSpec": {"containers"}, "Container": {"name", "image"}, "Volume": {"name"}, "VolumeMount": {"name", "mountPath"},
    "Variable": {"name"},
}  # fmt: skip


def faults(value, kind, path=""):
    """What of ``value`` is none of the documented fields, of another type, or missing: one line each."""
    if isinstance(kind, list):
        entries = value if isinstance(value, list) else [value]
        return [line for number, entry in enumerate(entries) for line in faults(entry, kind[0], f"{path}[{number}]")]
    if isinstance(kind, set):
        return [] if value in kind else [f"{path}: expected one of {sorted(kind)}, got {value!r}"]
    if isinstance(kind, type):
        return [] if type(value) is kind else [f"{path}: expected {kind.__name__}, got {value!r}"]
    if not isinstance(value, dict):
        return [f"{path}: expected a mapping, got {value!r}"]
    if kind == "Strings":
        return [f"{path}.{key}: expected a string, got {v!r}" for key, v in value.items() if not isinstance(v, str)]
    known = FIELDS[kind]
    lines = [f"{path}: expected {name}, found none" for name in sorted(REQUIRED.get(kind, set()) - set(value))]
    lines += [f"{path}.{name}: no such field of a {kind}" for name in value if name not in known]
    return lines + [
        line for name, part in value.items() if name in known for line in faults(part, known[name], f"{path}.{name}")
    ]

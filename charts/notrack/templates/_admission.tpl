{{- define "notrack.admissionMetadata" -}}
labels: {{- include "notrack.labels" (dict "root" .root) | nindent 2 }}
annotations: {{- toYaml .annotations | nindent 2 }}
{{- end }}

{{- define "notrack.admission" -}}
# An agent writes the status of its own node's plan and nothing else, whatever it was taught by whoever stole its token.
# The API server holds it to that by the node that the token is bound to.
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: notrack-agent-own-node
  {{- include "notrack.admissionMetadata" . | nindent 2 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    matchPolicy: Equivalent
    resourceRules:
    - apiGroups: [notrack.dev]
      apiVersions: ["*"]
      operations: [CREATE, UPDATE, DELETE]
      # Objects and their subresources.
      resources: ["*/*"]
      scope: "*"
  matchConditions:
  - name: is-agent
    expression: "request.userInfo.username == 'system:serviceaccount:{{ .root.Release.Namespace }}:notrack-agent'"
  variables:
  - name: nodeName
    expression: >-
      'authentication.kubernetes.io/node-name' in request.userInfo.extra
      && size(request.userInfo.extra['authentication.kubernetes.io/node-name']) == 1
      ? request.userInfo.extra['authentication.kubernetes.io/node-name'][0] : ''
  - name: nodeUID
    expression: >-
      'authentication.kubernetes.io/node-uid' in request.userInfo.extra
      && size(request.userInfo.extra['authentication.kubernetes.io/node-uid']) == 1
      ? request.userInfo.extra['authentication.kubernetes.io/node-uid'][0] : ''
  validations:
  - expression: >-
      request.operation == 'UPDATE' && request.resource.resource == 'nodeplans'
      && has(request.subResource) && request.subResource == 'status'
    message: an agent may only write the status of a NodePlan
    reason: Forbidden
  - expression: variables.nodeName != ''
    message: "the agent's token names no node: it must be a token bound to a pod (Kubernetes 1.32 or later)"
    reason: Forbidden
  - expression: request.name == variables.nodeName
    messageExpression: >-
      'this token belongs to node "' + variables.nodeName + '" and may not write the NodePlan of "' + request.name + '"'
    reason: Forbidden
  - expression: request.operation != 'UPDATE' || !has(oldObject.spec) || oldObject.spec.nodeUID == variables.nodeUID
    message: this token belongs to an earlier node of the same name
    reason: Forbidden
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: notrack-agent-own-node
  {{- include "notrack.admissionMetadata" . | nindent 2 }}
spec: {policyName: notrack-agent-own-node, validationActions: [Deny]}
---
# What can break others' traffic needs a verb of its own.
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: notrack-privileged-fields
  {{- include "notrack.admissionMetadata" . | nindent 2 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [notrack.dev], apiVersions: ["*"], operations: [CREATE, UPDATE], resources: [notrackpolicies]}
  variables:
  - name: policies
    expression: authorizer.group('notrack.dev').resource('notrackpolicies').name(request.name)
  - name: changed
    expression: request.operation == 'CREATE' || object.spec != oldObject.spec
  validations:
  - expression: >-
      !variables.changed || !object.spec.flows.exists(flow, has(flow.acknowledge) && size(flow.acknowledge) > 0)
      || variables.policies.check('acknowledge').allowed()
    message: acknowledging a hazard needs the verb acknowledge on notrackpolicies.notrack.dev
    reason: Forbidden
  - expression: >-
      !variables.changed || !object.spec.flows.exists(flow, flow.role == 'Forward')
      || variables.policies.check('forward').allowed()
    message: role Forward needs the verb forward on notrackpolicies.notrack.dev
    reason: Forbidden
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: notrack-privileged-fields
  {{- include "notrack.admissionMetadata" . | nindent 2 }}
spec: {policyName: notrack-privileged-fields, validationActions: [Deny]}
{{- end }}

/**
 * ApiVersions (18), versions 0 to 4: what this broker does, read from the table of handlers, so that it cannot promise
 * anything else. No features: neither transactions nor the consumer protocol are switched on. A version that is not
 * supported is answered by the listener in the form of version 0.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler } from '../api.ts'
import { answer } from '../reply.ts'

export const apiVersions: ApiHandler<typeof Api.ApiVersions> = {
  key: Api.ApiVersions,
  min: 0,
  max: 4,

  handle(call) {
    return answer({
      errorCode: ErrorCode.NONE,
      apiKeys: call.cluster.apis().map(({ key, min, max }) => ({ apiKey: key, minVersion: min, maxVersion: max })),
    })
  },

  refuse(_call, _request, errorCode) {
    return { errorCode }
  },
}

/** DescribeCluster (60), versions 0 to 2: the brokers that are up, the controller, the cluster id. */
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler } from '../api.ts'
import { answer } from '../reply.ts'

const brokerEndpoints = 1

export const describeCluster: ApiHandler<typeof Api.DescribeCluster> = {
  key: Api.DescribeCluster,
  min: 0,
  max: 2,

  handle(call, request) {
    const { cluster } = call
    if (request.endpointType !== brokerEndpoints) {
      return answer(this.refuse(call, request, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE))
    }
    return answer({
      errorCode: ErrorCode.NONE,
      clusterId: cluster.options.clusterId,
      controllerId: cluster.controller(),
      brokers: cluster.liveNodes().map((brokerId) => {
        const { host, port } = cluster.nodes.get(brokerId)!
        return { brokerId, host, port }
      }),
    })
  },

  refuse(call, _request, errorCode) {
    return { errorCode, clusterId: call.cluster.options.clusterId }
  },
}

/**
 * Configuration of topics and brokers: read with the place each value comes from, and changed setting by setting.
 *
 * A broker answers about itself only, so what concerns one broker is sent to it; the rest goes to whoever is there.
 */
import type { OttlaError } from '../../contract/errors.ts'
import { Api } from '../../wire/protocol.ts'
import { brokerError } from '../broker-error.ts'
import { type AdminCallOptions, type AdminCalls, itemError, notMentioned } from './calls.ts'

/** What is configured: a topic, one broker, or (`'all'`) what is set for all brokers while they run. */
export type ConfigResource = { readonly topic: string } | { readonly broker: number | 'all' }

/** Where a value comes from; the first of these that has one wins. */
export type ConfigSource = 'topic' | 'broker' | 'allBrokers' | 'file' | 'default' | 'other'

export interface ConfigEntry {
  readonly name: string
  /** Null when it is a secret, or is not set and has no default. */
  readonly value: string | null
  readonly source: ConfigSource
  readonly readOnly: boolean
  readonly secret: boolean
}

export interface ConfigDescription {
  readonly resource: ConfigResource
  /** Sorted by name; empty with an error. */
  readonly configs: readonly ConfigEntry[]
  readonly error?: OttlaError
}

/** What changes of one resource: all of it or, when the broker refuses any of it, nothing. */
export interface ConfigChange {
  readonly resource: ConfigResource
  readonly set?: Readonly<Record<string, string>>
  /** Settings that go back to their default. */
  readonly delete?: readonly string[]
  /** Words added to settings that are lists, such as `cleanup.policy`. */
  readonly append?: Readonly<Record<string, readonly string[]>>
  /** Words taken out of settings that are lists. */
  readonly subtract?: Readonly<Record<string, readonly string[]>>
}

export interface ConfigChangeResult {
  readonly resource: ConfigResource
  readonly error?: OttlaError
}

const types = { topic: 2, broker: 4 } as const
const operations = { set: 0, delete: 1, append: 2, subtract: 3 } as const
const sources: Readonly<Record<number, ConfigSource>> = {
  1: 'topic',
  2: 'broker',
  3: 'allBrokers',
  4: 'file',
  5: 'default',
}

/** A resource as the protocol names it. */
interface Named {
  readonly resource: ConfigResource
  readonly resourceType: number
  readonly resourceName: string
}

export async function describeConfigs(
  calls: AdminCalls,
  resources: readonly ConfigResource[],
  options: AdminCallOptions & { readonly names?: readonly string[] },
): Promise<readonly ConfigDescription[]> {
  const ask = async (node: number | 'any', asked: readonly Named[]): Promise<ConfigDescription[]> => {
    const body = {
      resources: asked.map(({ resourceType, resourceName }) => ({
        resourceType,
        resourceName,
        configurationKeys: options.names ?? null,
      })),
    }
    const answer =
      node === 'any'
        ? await calls.any(Api.DescribeConfigs, body, options)
        : await calls.cluster.request(node, Api.DescribeConfigs, body, calls.call(options))
    return asked.map((one): ConfigDescription => {
      const { resource } = one
      const what = `Reading the configuration of ${nameOf(resource)}`
      const told = answer.body.results.find((r) => isSame(r, one))
      if (told === undefined) return { resource, configs: [], error: notMentioned(what) }
      if (told.errorCode !== 0) {
        return { resource, configs: [], error: brokerError(told.errorCode, what, told.errorMessage) }
      }
      const configs = told.configs
        .map((c) => ({
          name: c.name,
          value: c.isSensitive ? null : c.value,
          source: sources[c.configSource] ?? 'other',
          readOnly: c.readOnly,
          secret: c.isSensitive,
        }))
        .sort((a, b) => (a.name < b.name ? -1 : 1))
      return { resource, configs }
    })
  }
  return perBroker(resources, options, { ask, failed: (resource, error) => ({ resource, configs: [], error }) })
}

export async function alterConfigs(
  calls: AdminCalls,
  changes: readonly ConfigChange[],
  options: AdminCallOptions & { readonly validateOnly?: boolean },
): Promise<readonly ConfigChangeResult[]> {
  const byResource = new Map(changes.map((change) => [change.resource, change]))
  const ask = async (node: number | 'any', asked: readonly Named[]): Promise<ConfigChangeResult[]> => {
    const answer = await calls.cluster.request(
      node,
      Api.IncrementalAlterConfigs,
      {
        resources: asked.map(({ resource, resourceType, resourceName }) => ({
          resourceType,
          resourceName,
          configs: alterations(byResource.get(resource) as ConfigChange),
        })),
        validateOnly: options.validateOnly ?? false,
      },
      calls.call(options),
    )
    return asked.map((one): ConfigChangeResult => {
      const { resource } = one
      const what = `Changing the configuration of ${nameOf(resource)}`
      const told = answer.body.responses.find((r) => isSame(r, one))
      if (told === undefined) return { resource, error: notMentioned(what) }
      return told.errorCode === 0
        ? { resource }
        : { resource, error: brokerError(told.errorCode, what, told.errorMessage) }
    })
  }
  return perBroker(
    changes.map((change) => change.resource),
    options,
    { ask, failed: (resource, error) => ({ resource, error }) },
  )
}

/** Names and values alone, without secrets and what has no value. */
export function configsByName(description: ConfigDescription | undefined): Readonly<Record<string, string>> {
  const configs: Record<string, string> = {}
  for (const { name, value } of description?.configs ?? []) if (value !== null) configs[name] = value
  return configs
}

/** Sends what concerns one broker to it and the rest to anybody, each as one request. Answers in the order of `resources`. */
async function perBroker<R extends { readonly resource: ConfigResource }>(
  resources: readonly ConfigResource[],
  options: AdminCallOptions,
  how: {
    readonly ask: (node: number | 'any', asked: readonly Named[]) => Promise<R[]>
    readonly failed: (resource: ConfigResource, error: OttlaError) => R
  },
): Promise<readonly R[]> {
  const requests = new Map<number | 'any', Named[]>()
  for (const resource of resources) {
    const node = 'broker' in resource && resource.broker !== 'all' ? resource.broker : 'any'
    const named: Named =
      'topic' in resource
        ? { resource, resourceType: types.topic, resourceName: resource.topic }
        : { resource, resourceType: types.broker, resourceName: resource.broker === 'all' ? '' : `${resource.broker}` }
    const asked = requests.get(node)
    if (asked === undefined) requests.set(node, [named])
    else asked.push(named)
  }
  const results = new Map<ConfigResource, R>()
  await Promise.all(
    [...requests].map(async ([node, asked]) => {
      try {
        for (const result of await how.ask(node, asked)) results.set(result.resource, result)
      } catch (error) {
        const known = itemError(error, options)
        // Nobody to ask at all is no matter of one item.
        if (node === 'any') throw known
        for (const { resource } of asked) results.set(resource, how.failed(resource, known))
      }
    }),
  )
  return resources.map((resource) => results.get(resource) as R)
}

function alterations(change: ConfigChange): { name: string; configOperation: number; value: string | null }[] {
  const list = (words: Readonly<Record<string, readonly string[]>> | undefined, configOperation: number) =>
    Object.entries(words ?? {}).map(([name, value]) => ({ name, configOperation, value: value.join(',') }))
  return [
    ...Object.entries(change.set ?? {}).map(([name, value]) => ({ name, configOperation: operations.set, value })),
    ...(change.delete ?? []).map((name) => ({ name, configOperation: operations.delete, value: null })),
    ...list(change.append, operations.append),
    ...list(change.subtract, operations.subtract),
  ]
}

function isSame(told: { readonly resourceType: number; readonly resourceName: string }, asked: Named): boolean {
  return told.resourceType === asked.resourceType && told.resourceName === asked.resourceName
}

function nameOf(resource: ConfigResource): string {
  if ('topic' in resource) return `topic ${resource.topic}`
  return resource.broker === 'all' ? 'all brokers' : `broker ${resource.broker}`
}

/** Certificates for the secured broker: a CA, a broker and a client, made with openssl and thrown away with the folder. */
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { runOk } from './command.ts'

export interface TestCertificates {
  readonly caFile: string
  /** Key, certificate and CA in one PEM file, as Kafka's PEM key store wants it. */
  readonly broker: { readonly keyStoreFile: string }
  /** A service called `svc-orders` by the broker's mapping rules. */
  readonly client: { readonly certFile: string; readonly keyFile: string }
}

/** Writes all files into `folder`. Needs openssl 3. */
export async function makeCertificates(folder: string): Promise<TestCertificates> {
  const file = (name: string) => path.join(folder, name)
  const openssl = (...args: string[]) => runOk('openssl', args, { cwd: folder })
  await openssl(
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '30', '-subj', '/CN=ottla-test-ca'],
    ...['-keyout', 'ca.key', '-out', 'ca.pem'],
  )
  const issue = async (name: string, subject: string) => {
    await openssl(
      'req',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-subj',
      subject,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.csr`,
    )
    writeFileSync(
      file(`${name}.ext`),
      'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n',
    )
    await openssl(
      ...['x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial'],
      ...['-days', '30', '-extfile', `${name}.ext`, '-out', `${name}.crt`],
    )
    const parts = [`${name}.key`, `${name}.crt`, 'ca.pem'].map((part) => readFileSync(file(part), 'utf8'))
    writeFileSync(file(`${name}.pem`), parts.join(''))
  }
  await issue('broker', '/O=ottla/CN=broker')
  await issue('client', '/O=ottla/OU=services/CN=Svc-Orders')
  return {
    caFile: file('ca.pem'),
    broker: { keyStoreFile: file('broker.pem') },
    client: { certFile: file('client.crt'), keyFile: file('client.key') },
  }
}
